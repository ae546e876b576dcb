"""The commands of `paintbox` that make versions: patch, reselect, compose."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from paintbox_client.client import Client, JsonObject
from paintbox_client.connection import AsJson, NoWait, complete, open_client
from paintbox_client.display import print_json, print_note, watch_job
from paintbox_client.errors import InputError
from paintbox_client.options import (
    Activate,
    AlphaPath,
    Coefficients,
    MaxDrop,
    Merge,
    Method,
    Priority,
    Profile,
    Rule,
    Sampling,
    Strategy,
    check_rule,
    parse_drops,
    parse_factor,
    parse_settings,
)
from paintbox_client.reports import print_report
from paintbox_client.tables import print_job, print_new_version, print_selection

_SHA256 = re.compile("[0-9a-f]{64}", re.ASCII)


TaskRefs = Annotated[
    list[str],
    typer.Option(autocompletion=complete("dataset"), help="Data set to improve on: name or id; repeatable."),
]
SupportedRefs = Annotated[
    list[str] | None,
    typer.Option(autocompletion=complete("dataset"), help="Data set to keep the accuracy of; repeatable."),
]
TransferRefs = Annotated[
    list[str] | None,
    typer.Option(
        autocompletion=complete("dataset"),
        help="Data set that takes no part and is evaluated before and after; repeatable.",
    ),
]
Folds = Annotated[
    int | None, typer.Option(min=2, max=10, help="Choose alpha by cross-validation. Default: one validation split.")
]
StrategyOption = Annotated[
    Strategy | None, typer.Option(help="grid evaluates every alpha, interpolated a few. Default: grid.")
]
PathOption = Annotated[
    AlphaPath | None, typer.Option(help="flat, lines_paper (scaled by depth, LiNeS), lines or best. Default: flat.")
]
AnchorsRef = Annotated[
    str | None,
    typer.Option(autocompletion=complete("dataset"), help="Pool of images whose features are held in place."),
]
AnchorSupported = Annotated[
    bool, typer.Option("--anchor-supported", help="Hold features on the supported tasks' images, too.")
]
ActivateOption = Annotated[
    Activate | None,
    typer.Option(help="if_accepted: serve it at once if the floor holds on the test splits, too. Default: never."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other field, as finetune.precision=bf16; repeatable."),
]


def patch(
    ctx: typer.Context,
    task: TaskRefs,
    supported: SupportedRefs = None,
    transfer: TransferRefs = None,
    name: Annotated[str | None, typer.Option(help="Name of the patch. Default: after its tasks.")] = None,
    base: Annotated[str | None, typer.Option(help="Base model. Default: the service's first.")] = None,
    method: Annotated[Method | None, typer.Option(help="How several tasks are patched. Default: single.")] = None,
    sampling: Annotated[Sampling | None, typer.Option(help="For joint. Default: proportional.")] = None,
    merge: Annotated[Merge | None, typer.Option(help="For parallel. Default: average.")] = None,
    coefficients: Annotated[Coefficients | None, typer.Option(help="For parallel. Default: scalar.")] = None,
    folds: Folds = None,
    rule: Rule = None,
    max_drop: MaxDrop = None,
    strategy: StrategyOption = None,
    path: PathOption = None,
    anchors: AnchorsRef = None,
    anchor_supported: AnchorSupported = False,
    anchor_weight: Annotated[float | None, typer.Option(help="Factor of the anchors' loss. Default: 60.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Optimizer steps. Default: the base's own.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate. Default: the base's own.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images in a step. Default: the base's own.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Decides data order and augmentation. Default: 0.")] = None,
    activate: ActivateOption = None,
    priority: Annotated[Priority | None, typer.Option(help="Of its job; high is for admins. Default: normal.")] = None,
    webhook: Annotated[str | None, typer.Option(help="URL that is told when the job has ended.")] = None,
    setting: Settings = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Improve the model on one task or several, measured beside the supported ones, which should not get worse."""
    if not setting:
        check_rule(rule, max_drop, supported or [])
    finetune = {"iterations": iterations, "learning_rate": learning_rate, "batch_size": batch_size, "seed": seed}
    alpha: JsonObject = {"rule": rule, "max_supported_drop": parse_drops(max_drop), "strategy": strategy, "path": path}
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
        "activate": activate,
        "priority": priority,
        "webhook_url": webhook,
    }
    request = parse_settings(_given(request), setting)
    with open_client(ctx) as client:
        created = client.create_patch(**_with_ids(client, request))
        if no_wait:
            return print_json(created) if as_json else _print_started(created)
        if not as_json:
            print_note(f"Patch {created['patch']['id']}")
        watch_job(client, created["job"]["id"], "Patching")
        done = client.patch(created["patch"]["id"])
        active = client.active()["version"]
    print_json(done) if as_json else print_report(done, active)


def _print_started(created: JsonObject) -> None:
    print_job(created["job"])
    identifier = created["patch"]["id"]
    print_note(f"Patch {identifier}. `paintbox job {created['job']['id']} --wait` waits for its report.")


def _with_ids(client: Client, request: JsonObject) -> JsonObject:
    """Return the request with ids in place of names."""

    def find(reference: Any) -> Any:
        return client.find("dataset", reference, is_used=True) if isinstance(reference, str) else reference

    with_ids = request | {
        name: [find(each) for each in request[name]] for name in ("tasks", "supported", "transfer") if name in request
    }
    alpha, pool = request.get("alpha"), request.get("anchors")
    if isinstance(alpha, dict) and isinstance(alpha.get("max_supported_drop"), dict):
        drops = {find(name): points for name, points in alpha["max_supported_drop"].items()}
        with_ids["alpha"] = alpha | {"max_supported_drop": drops}
    if isinstance(pool, dict) and "dataset" in pool:
        with_ids["anchors"] = pool | {"dataset": find(pool["dataset"])}
    return with_ids


def reselect(
    ctx: typer.Context,
    patch_ref: Annotated[
        str,
        typer.Argument(
            metavar="PATCH", autocompletion=complete("patch"), help="Name or id, or the number of a version of it."
        ),
    ],
    alpha: Annotated[float | None, typer.Option(help="The alpha itself.")] = None,
    profile: Annotated[Profile | None, typer.Option(help="Default: the patch's own.")] = None,
    rule: Rule = None,
    max_drop: MaxDrop = None,
    name: Annotated[str | None, typer.Option(help="Name of the version.")] = None,
    as_json: AsJson = False,
) -> None:
    """Choose another alpha of a finished patch: a new version in seconds, without training."""
    if (alpha is None) == (rule is None):
        raise InputError("It is not clear which alpha to take.", "Give --alpha A, or --rule RULE to choose one.")
    check_rule(rule, max_drop)
    drops: Any = parse_drops(max_drop)
    with open_client(ctx) as client:
        if isinstance(drops, dict):
            drops = {client.find("dataset", each): points for each, points in drops.items()}
        request = _given({"alpha": alpha, "profile": profile, "rule": rule, "max_supported_drop": drops, "name": name})
        identifier = client.find("patch", patch_ref)
        answer = client.reselect(identifier, **request)
        if as_json:
            return print_json(answer)
        report = client.patch(identifier)["report"]
    print_selection(answer, {each["dataset_id"]: each.get("name", each["dataset_id"]) for each in report["tasks"]})


def compose(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Of the version, for people.")],
    patches: Annotated[
        list[str] | None,
        typer.Option(
            "--patch",
            metavar="PATCH[=FACTOR]",
            autocompletion=complete("patch"),
            help="Add what a patch added: name or id; repeatable.",
        ),
    ] = None,
    versions: Annotated[
        list[str] | None,
        typer.Option("--version", metavar="VERSION[=FACTOR]", help="Add a version's terms; repeatable."),
    ] = None,
    vectors: Annotated[
        list[str] | None, typer.Option("--vector", metavar="SHA256[=FACTOR]", help="Add a task vector; repeatable.")
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(help="Patch, or hash of a task vector, to take out of the one --version; repeatable."),
    ] = None,
    base: Annotated[str | None, typer.Option(help="Base that all of it must be of.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a version of patches and versions that are there, or take a patch out of one. No training."""
    if remove and (len(versions or ()) != 1 or patches or vectors):
        raise InputError("What to remove from is not clear.", "Name one --version beside --remove, and nothing else.")
    if not (patches or versions or vectors):
        raise InputError("There is nothing to compose.", "Name a --patch, a --version or a --vector.")
    with open_client(ctx) as client:
        if remove:
            version = client.find_version((versions or [""])[0])
            what = [each if _SHA256.fullmatch(each) else client.find("patch", each) for each in remove]
            made = client.remove(name, version, what, base=base)
        else:
            made = client.compose(name, _terms(client, patches, versions, vectors), base=base)
    print_json(made) if as_json else print_new_version(made)


def _terms(
    client: Client, patches: list[str] | None, versions: list[str] | None, vectors: list[str] | None
) -> list[JsonObject]:
    terms: list[JsonObject] = []
    for value in patches or ():
        reference, factor = parse_factor(value)
        terms.append({"patch": client.find("patch", reference), "coefficient": factor})
    for value in versions or ():
        reference, factor = parse_factor(value)
        terms.append({"version": client.find_version(reference), "coefficient": factor})
    for value in vectors or ():
        reference, factor = parse_factor(value)
        terms.append({"task_vector_sha256": reference, "coefficient": factor})
    return terms


def _given(options: JsonObject) -> JsonObject:
    """Return what was given; what was not is the service's to decide."""
    return {key: value for key, value in options.items() if value is not None}
