"""The commands of `paintbox` that make versions: patch, reselect, compose."""

from __future__ import annotations

from typing import Annotated

import typer

from paintbox_client.client import JsonObject
from paintbox_client.connection import AsJson, NoWait, open_client
from paintbox_client.display import print_json, watch_job
from paintbox_client.errors import InputError
from paintbox_client.options import parse_drops, parse_factor, parse_settings, parse_version
from paintbox_client.tables import print_job, print_new_version, print_report, print_selection

MaxDrop = Annotated[
    list[str] | None,
    typer.Option(metavar="POINTS", help="With floor: points that a supported task may lose; ID=POINTS for one."),
]
Rule = Annotated[str | None, typer.Option(help="combined (best mean) or floor (best within --max-drop).")]


def patch(
    ctx: typer.Context,
    task: Annotated[list[str], typer.Option(help="Id of a data set to improve on; repeatable.")],
    supported: Annotated[list[str] | None, typer.Option(help="Id of one that must not drop; repeatable.")] = None,
    transfer: Annotated[
        list[str] | None,
        typer.Option(help="Id of one that takes no part and is evaluated before and after; repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    base: Annotated[str | None, typer.Option(help="Base model. Default: the service's first.")] = None,
    method: Annotated[str | None, typer.Option(help="single, joint, sequential or parallel.")] = None,
    sampling: Annotated[str | None, typer.Option(help="For joint: proportional or balanced.")] = None,
    merge: Annotated[str | None, typer.Option(help="For parallel: average, task_arithmetic, ties, tsv or iso.")] = None,
    coefficients: Annotated[str | None, typer.Option(help="For parallel: scalar or per_task.")] = None,
    folds: Annotated[int | None, typer.Option(help="Choose alpha by cross-validation, 2 to 10.")] = None,
    rule: Rule = None,
    max_drop: MaxDrop = None,
    strategy: Annotated[str | None, typer.Option(help="grid, or interpolated: a few forwards.")] = None,
    path: Annotated[str | None, typer.Option(help="flat, lines_paper (scaled by depth, LiNeS), lines or best.")] = None,
    anchors: Annotated[str | None, typer.Option(help="Id of a data set whose images hold the features.")] = None,
    anchor_supported: Annotated[
        bool, typer.Option("--anchor-supported", help="Hold features on the supported tasks' images.")
    ] = False,
    anchor_weight: Annotated[float | None, typer.Option(help="Factor of the anchors' loss.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Optimizer steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images in a step.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Decides data order and augmentation.")] = None,
    priority: Annotated[str | None, typer.Option(help="low, normal or high (admins only).")] = None,
    webhook: Annotated[str | None, typer.Option(help="URL that is told when the job has ended.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other field, as finetune.precision=bf16; repeatable."),
    ] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Improve the model on one task or several without losing the supported ones."""
    finetune = {"iterations": iterations, "learning_rate": learning_rate, "batch_size": batch_size, "seed": seed}
    alpha = {"rule": rule, "max_supported_drop": parse_drops(max_drop), "strategy": strategy, "path": path}
    pool = {"dataset": anchors, "supported": anchor_supported or None, "weight": anchor_weight}
    request: JsonObject = {
        "name": name or f"patch of {', '.join(task)}"[:200],
        "base": base,
        "method": method,
        "tasks": task,
        "supported": supported or [],
        "transfer": transfer,
        "sampling": sampling,
        "merge": merge,
        "coefficients": coefficients,
        "folds": folds,
        "finetune": _given(finetune),
        "alpha": _given(alpha),
        "anchors": _given(pool) or None,
        "priority": priority,
        "webhook_url": webhook,
    }
    request = parse_settings(_given(request), setting)
    with open_client(ctx) as client:
        created = client.create_patch(**request)
        if no_wait:
            return print_json(created) if as_json else print_job(created["job"])
        watch_job(client, created["job"]["id"], "Patching")
        done = client.patch(created["patch"]["id"])
    print_json(done) if as_json else print_report(done)


def reselect(
    ctx: typer.Context,
    patch_id: Annotated[str, typer.Argument(metavar="PATCH")],
    alpha: Annotated[float | None, typer.Option(help="The alpha itself.")] = None,
    profile: Annotated[str | None, typer.Option(help="flat, lines_paper or lines.")] = None,
    rule: Rule = None,
    max_drop: MaxDrop = None,
    name: Annotated[str | None, typer.Option(help="Of the version, for people.")] = None,
    as_json: AsJson = False,
) -> None:
    """Choose another alpha of a finished patch: a new version in seconds, without training."""
    request = _given(
        {"alpha": alpha, "profile": profile, "rule": rule, "max_supported_drop": parse_drops(max_drop), "name": name}
    )
    with open_client(ctx) as client:
        answer = client.reselect(patch_id, **request)
    print_json(answer) if as_json else print_selection(answer)


def compose(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Of the version, for people.")],
    patches: Annotated[
        list[str] | None, typer.Option("--patch", metavar="ID[=FACTOR]", help="Add what a patch added; repeatable.")
    ] = None,
    versions: Annotated[
        list[str] | None, typer.Option("--version", metavar="ID[=FACTOR]", help="Add a version's terms; repeatable.")
    ] = None,
    vectors: Annotated[
        list[str] | None, typer.Option("--vector", metavar="SHA256[=FACTOR]", help="Add a task vector; repeatable.")
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(help="Id of a patch, or hash of a task vector, to take out of the one --version; repeatable."),
    ] = None,
    base: Annotated[str | None, typer.Option(help="Base that all of it must be of.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a version of patches and versions that are there, or take a patch out of one. No training."""
    if remove and (len(versions or ()) != 1 or patches or vectors):
        raise InputError("What to remove from is not clear.", "Name one --version beside --remove, and nothing else.")
    with open_client(ctx) as client:
        if remove:
            made = client.remove(name, parse_version((versions or [""])[0]), remove, base=base)
        else:
            made = client.compose(name, _terms(patches, versions, vectors), base=base)
    print_json(made) if as_json else print_new_version(made)


def _terms(patches: list[str] | None, versions: list[str] | None, vectors: list[str] | None) -> list[JsonObject]:
    terms: list[JsonObject] = []
    for key, values in (("patch", patches), ("version", versions), ("task_vector_sha256", vectors)):
        for value in values or ():
            identifier, factor = parse_factor(value)
            named = parse_version(identifier) if key == "version" else identifier
            terms.append({key: named, "coefficient": factor})
    return terms


def _given(options: JsonObject) -> JsonObject:
    """Return what was given; what was not is the service's to decide."""
    return {key: value for key, value in options.items() if value is not None}
