"""The commands of `paintbox` that create versions: patch, reselect, compose."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from paintbox_client.cli_errors import EXIT_UNCHANGED
from paintbox_client.client import Client
from paintbox_client.connection import AsJson, NoWait, complete, open_client
from paintbox_client.display import print_json, print_note, watch_job
from paintbox_client.errors import InputError, JobFailedError
from paintbox_client.options import (
    Activate,
    AlphaPath,
    Coefficients,
    Confidence,
    Keep,
    MaxDrop,
    MaxMeanDrop,
    Merge,
    Method,
    MetricName,
    Priority,
    Profile,
    Rule,
    Sampling,
    StoredBits,
    Strategy,
    check_rule,
    parse_drops,
    parse_factor,
    parse_settings,
)
from paintbox_client.patch_checks import print_check
from paintbox_client.records import JsonObject
from paintbox_client.reports import is_unchanged, print_report
from paintbox_client.resources.reports import PatchReport
from paintbox_client.tables import print_job, print_new_version, print_selection

_SHA256 = re.compile("[0-9a-f]{64}", re.ASCII)


TaskRefs = Annotated[
    list[str],
    typer.Option(autocompletion=complete("dataset"), help="Data set to improve on: name or id; repeatable."),
]
SupportedRefs = Annotated[
    list[str] | None,
    typer.Option(autocompletion=complete("dataset"), help="Data set that must not get worse: name or id; repeatable."),
]
TransferRefs = Annotated[
    list[str] | None,
    typer.Option(
        autocompletion=complete("dataset"),
        help="Data set that is only evaluated, before and after; repeatable.",
    ),
]
SamplingOption = Annotated[Sampling | None, typer.Option(help="Sampling of tasks, for joint. Default: proportional.")]
MetricOption = Annotated[
    MetricName | None,
    typer.Option(help="What the rule maximises; the last two weight all classes equally. Default: accuracy."),
]
MergeOption = Annotated[
    Merge | None, typer.Option(help="How task vectors are merged, for parallel. Default: task_arithmetic.")
]
CoefficientsOption = Annotated[
    Coefficients | None, typer.Option(help="One coefficient or one per task, for parallel. Default: scalar.")
]
PriorityOption = Annotated[
    Priority | None, typer.Option(help="Priority of the job; high requires admin. Default: normal.")
]
BitsOption = Annotated[
    StoredBits | None,
    typer.Option(
        "--bits",
        help="Bits of each number of the stored task vectors. auto: the fewest that cost no accuracy. Default: auto.",
    ),
]
KeepOption = Annotated[
    Keep | None,
    typer.Option(
        help="What an instant patch keeps of its images: their features, or only statistics of each class. "
        "Default: features."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show what would be done, how long it takes, and warnings.")
]
LearningRate = Annotated[float | None, typer.Option(help="Peak learning rate. Default: preset of the base.")]
Tune = Annotated[
    int | None,
    typer.Option(
        min=2,
        max=16,
        help="Number of trials of learning rate and iterations, for single and joint; the best is kept. Default: none.",
    ),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Random seed for data order and augmentation. Default: 0.")]
Folds = Annotated[
    int | None,
    typer.Option(
        min=2, max=10, help="Number of folds to choose alpha by cross-validation. Default: use the validation split."
    ),
]
StrategyOption = Annotated[
    Strategy | None, typer.Option(help="grid evaluates every alpha, interpolated only a few. Default: interpolated.")
]
PathOption = Annotated[
    AlphaPath | None, typer.Option(help="flat, lines_paper (LiNeS: scaled by depth), lines or best. Default: flat.")
]
AnchorsRef = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete("dataset"), help="Data set whose features must stay in place, such as a pool."
    ),
]
AnchorSupported = Annotated[
    bool, typer.Option("--anchor-supported", help="Also use the images of the supported tasks as anchors.")
]
ActivateOption = Annotated[
    Activate | None,
    typer.Option(
        help="if_accepted: activate the version if the limits also hold on the test splits; if_certified: the same, "
        "with rule certified only. Default: never."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other field, such as finetune.precision=bf16; repeatable."),
]
MethodOption = Annotated[
    Method | None,
    typer.Option(
        help="instant: in seconds, without training. auto: instant first, then the better of it and fine-tuning. "
        "The others fine-tune. Default: single."
    ),
]
OnVersion = Annotated[
    int | None, typer.Option(min=1, help="With instant: version to add the head term to. Default: the base.")
]
NoAnchors = Annotated[
    bool, typer.Option("--no-anchors", help="Hold no features in place: plain fine-tuning, which forgets more.")
]
AnchorDrawn = Annotated[
    bool,
    typer.Option(
        "--anchor-drawn", help="Use drawn images as anchors, which need no data; the default with supported tasks."
    ),
]


def patch(
    ctx: typer.Context,
    task: TaskRefs,
    supported: SupportedRefs = None,
    transfer: TransferRefs = None,
    name: Annotated[str | None, typer.Option(help="Name of the patch. Default: derived from its tasks.")] = None,
    base: Annotated[str | None, typer.Option(help="Base model. Default: the first base of the service.")] = None,
    method: MethodOption = None,
    sampling: SamplingOption = None,
    merge: MergeOption = None,
    coefficients: CoefficientsOption = None,
    folds: Folds = None,
    bits: BitsOption = None,
    keep: KeepOption = None,
    on_version: OnVersion = None,
    rule: Rule = None,
    metric: MetricOption = None,
    max_drop: MaxDrop = None,
    max_mean_drop: MaxMeanDrop = None,
    confidence: Confidence = None,
    strategy: StrategyOption = None,
    path: PathOption = None,
    anchors: AnchorsRef = None,
    anchor_supported: AnchorSupported = False,
    anchor_drawn: AnchorDrawn = False,
    no_anchors: NoAnchors = False,
    anchor_weight: Annotated[float | None, typer.Option(help="Weight of the anchor loss. Default: 60.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Optimizer steps. Default: preset of the base.")] = None,
    learning_rate: LearningRate = None,
    tune: Tune = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images per step. Default: preset of the base.")] = None,
    seed: Seed = None,
    activate: ActivateOption = None,
    priority: PriorityOption = None,
    webhook: Annotated[str | None, typer.Option(help="URL to call when the job ends.")] = None,
    setting: Settings = None,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Improve the model on one or several tasks without degrading the supported tasks.

    Exit status 4: the job succeeded, but no alpha was acceptable, so the version equals the base.
    """
    if not setting:
        check_rule(rule, max_drop, supported or [])
    finetune = {"iterations": iterations, "learning_rate": learning_rate, "batch_size": batch_size, "seed": seed}
    finetune |= {"tune": tune}
    alpha: JsonObject = {"rule": rule, "metric": metric, "strategy": strategy, "path": path, "confidence": confidence}
    alpha |= {"max_supported_drop": parse_drops(max_drop), "max_mean_drop": max_mean_drop}
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
        "keep": keep,
        "version": on_version,
        "store": {"bits": bits if bits == "auto" else int(bits)} if bits else None,
        "finetune": _given(finetune),
        "alpha": _given(alpha),
        "anchors": _pool(anchors, anchor_supported, anchor_drawn, anchor_weight),
        "activate": activate,
        "priority": priority,
        "webhook_url": webhook,
    }
    request = parse_settings(_given(request) | ({"anchors": None} if no_anchors else {}), setting)
    with open_client(ctx) as client:
        if dry_run:
            checked = client.check_patch(**_with_ids(client, request))
            return print_json(checked) if as_json else print_check(checked)
        created = client.create_patch(**_with_ids(client, request))
        if no_wait:
            return print_json(created) if as_json else _print_started(created)
        wait_and_show(client, created, as_json)


def wait_and_show(client: Client, created: JsonObject, as_json: bool) -> None:
    """Wait for the job of a new patch, and show its report; exit with status 4 if its version equals the base."""
    if not as_json:
        print_note(f"Patch {created['patch']['id']}")
        if first := created["patch"].get("instant_patch_id"):
            _wait_for_first(client, first)
    watch_job(client, created["job"]["id"], "Patching")
    done = client.patch(created["patch"]["id"])
    print_json(done) if as_json else print_report(done, client.active()["version"])
    if is_unchanged(PatchReport(done["report"])):
        raise typer.Exit(EXIT_UNCHANGED)


def _wait_for_first(client: Client, patch_id: str) -> None:
    """Wait for the instant patch that method `auto` starts with, and tell what it made."""
    try:
        watch_job(client, client.patch(patch_id)["job_id"], "Patching instantly")
    except JobFailedError as error:  # the fine-tuning goes on
        print_note(f"The instant patch {patch_id} has failed: {error}")
        return
    version = client.patch(patch_id)["version_id"]
    print_note(f"Version {version} of the instant patch {patch_id} can be used now; fine-tuning goes on.")


def _print_started(created: JsonObject) -> None:
    print_job(created["job"])
    identifier = created["patch"]["id"]
    print_note(f"Patch {identifier}. Wait for its report with `paintbox job {created['job']['id']} --wait`.")


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
            metavar="PATCH", autocompletion=complete("patch"), help="Name or id, or number of a version of the patch."
        ),
    ],
    alpha: Annotated[float | None, typer.Option(help="Mixing coefficient to use.")] = None,
    profile: Annotated[Profile | None, typer.Option(help="Profile by depth. Default: that of the patch.")] = None,
    rule: Rule = None,
    max_drop: MaxDrop = None,
    max_mean_drop: MaxMeanDrop = None,
    confidence: Confidence = None,
    name: Annotated[str | None, typer.Option(help="Name of the version.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a version with another alpha from a finished patch, without training."""
    if (alpha is None) == (rule is None):
        raise InputError(
            "Exactly one of --alpha and --rule is required.", "Give --alpha A, or --rule RULE to choose alpha."
        )
    check_rule(rule, max_drop)
    drops: Any = parse_drops(max_drop)
    with open_client(ctx) as client:
        if isinstance(drops, dict):
            drops = {client.find("dataset", each): points for each, points in drops.items()}
        limits = {"max_supported_drop": drops, "max_mean_drop": max_mean_drop, "confidence": confidence}
        request = _given({"alpha": alpha, "profile": profile, "rule": rule, **limits, "name": name})
        identifier = client.find("patch", patch_ref)
        answer = client.reselect(identifier, **request)
        if as_json:
            return print_json(answer)
        report = client.patch(identifier)["report"]
    print_selection(answer, {each["dataset_id"]: each.get("name", each["dataset_id"]) for each in report["tasks"]})


def compose(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the new version.")],
    patches: Annotated[
        list[str] | None,
        typer.Option(
            "--patch",
            metavar="PATCH[=FACTOR]",
            autocompletion=complete("patch"),
            help="Add the task vectors of a patch: name or id; repeatable.",
        ),
    ] = None,
    versions: Annotated[
        list[str] | None,
        typer.Option("--version", metavar="VERSION[=FACTOR]", help="Add the terms of a version; repeatable."),
    ] = None,
    vectors: Annotated[
        list[str] | None, typer.Option("--vector", metavar="SHA256[=FACTOR]", help="Add a task vector; repeatable.")
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(help="Patch, or SHA-256 of a task vector, to remove from the single --version; repeatable."),
    ] = None,
    base: Annotated[str | None, typer.Option(help="Base model that all terms must have.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a version from existing patches and versions, or remove a patch from a version, without training."""
    if remove and (len(versions or ()) != 1 or patches or vectors):
        raise InputError(
            "--remove requires exactly one --version.", "Use it with a single --version and no other terms."
        )
    if not (patches or versions or vectors):
        raise InputError("There are no terms to compose.", "Add at least one --patch, --version or --vector.")
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


def _pool(dataset: str | None, supported: bool, drawn: bool, weight: float | None) -> JsonObject | None:
    """Return the anchors of the body, or None if no option names any."""
    return (
        _given({"dataset": dataset, "supported": supported or None, "drawn": drawn or None, "weight": weight}) or None
    )


def _given(options: JsonObject) -> JsonObject:
    """Return the options that were given; the service has defaults for the others."""
    return {key: value for key, value in options.items() if value is not None}
