"""Parsing of command line options such as `ID=NUMBER` and `KEY=VALUE`."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

import typer

from paintbox_client.errors import InputError
from paintbox_client.records import JsonObject

Method = Literal["single", "joint", "sequential", "parallel", "instant", "auto"]
Sampling = Literal["proportional", "balanced"]
StoredBits = Literal["auto", "32", "16", "8", "4"]
Merge = Literal["average", "task_arithmetic", "ties", "tsv", "iso", "ace", "esm", "regmean"]
Coefficients = Literal["scalar", "per_task"]
RuleName = Literal["combined", "floor", "certified"]
MetricName = Literal["accuracy", "balanced_accuracy", "macro_f1"]
Strategy = Literal["grid", "interpolated"]
AlphaPath = Literal["flat", "lines", "lines_paper", "best"]
Keep = Literal["features", "statistics"]
Activate = Literal["never", "if_accepted", "if_certified"]
Priority = Literal["low", "normal", "high"]
Profile = Literal["flat", "lines", "lines_paper"]
ChangeKind = Literal["lost", "won"]
JobKind = Literal["ingest", "patch", "finetune", "evaluate"]
SplitName = Literal["train", "validation", "test"]
SplitAssignment = Literal["keep", "by_content"]
ThumbnailSize = Literal["64", "128", "256", "512"]


class JobStatus(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DatasetState(StrEnum):
    """State of a data set."""

    INGESTING = "ingesting"
    READY = "ready"
    FAILED = "failed"


class FeedbackState(StrEnum):
    """State of feedback."""

    OPEN = "open"
    ACCEPTED = "accepted"
    DISMISSED = "dismissed"
    USED = "used"


FeedbackSource = Literal["sent", "sampled", "shadow"]

MaxDrop = Annotated[
    list[str] | None,
    typer.Option(
        metavar="POINTS",
        help="With --rule certified or floor: maximum drop of a supported task in points; NAME=POINTS for one task.",
    ),
]
Rule = Annotated[
    RuleName | None,
    typer.Option(
        help="certified (default of patches with --supported): best patching accuracy whose drops are within "
        "--max-mean-drop and --max-drop, with a stated confidence; combined (default otherwise): best mean accuracy; "
        "floor: best patching accuracy within --max-drop on the validation images."
    ),
]
MaxMeanDrop = Annotated[
    float | None,
    typer.Option(
        help="With --rule certified: maximum drop of the supported tasks' mean in points. Default: 1, and --max-drop 3."
    ),
]
Confidence = Annotated[float | None, typer.Option(help="With --rule certified: confidence. Default: 0.95.")]


def check_rule(rule: str | None, max_drop: Sequence[str] | None, supported: Sequence[str] | None = None) -> None:
    """Reject a rule without its options, in the words of the command line; `supported` is None without such an option.

    Raises:
        InputError: The options do not fit the rule.
    """
    if rule == "floor" and not max_drop:
        raise InputError("--rule floor needs --max-drop POINTS.", "For example: --rule floor --max-drop 1.")
    if max_drop and rule == "combined":
        raise InputError("--max-drop requires --rule certified or floor.", "Leave out --rule combined, or --max-drop.")
    if (max_drop or rule in ("floor", "certified")) and supported is not None and not supported:
        needs = "--max-drop" if max_drop else f"--rule {rule}"
        raise InputError(f"{needs} needs supported tasks.", "Add at least one with --supported.")


def parse_drops(values: Sequence[str] | None) -> float | dict[str, float] | None:
    """Return points for all supported tasks, points by data set, or None without values.

    Args:
        values: Each `POINTS` or `NAME=POINTS`; the first form stands alone.

    Raises:
        InputError: A value is neither, or both forms occur.
    """
    if not values:
        return None
    if len(values) == 1 and "=" not in values[0]:
        return _number("--max-drop", values[0])
    drops = {}
    for value in values:
        identifier, separator, points = value.rpartition("=")
        if not separator or not identifier:
            raise InputError(
                f"--max-drop {value!r} does not specify a task.",
                "Give one number for all supported tasks, or NAME=POINTS for each task.",
            )
        drops[identifier] = _number("--max-drop", points)
    return drops


def parse_factor(value: str) -> tuple[str, float]:
    """Return the id of `ID` or `ID=FACTOR`, and the factor, by default 1."""
    identifier, separator, factor = value.rpartition("=")
    return (identifier, _number(identifier, factor)) if separator else (value, 1.0)


def parse_settings(request: JsonObject, settings: Sequence[str] | None) -> JsonObject:
    """Return a copy of the request's body with further fields.

    Args:
        request: Body of a request.
        settings: Each `KEY=VALUE`; dots in the key lead into the body, the value is JSON or, failing that, text.

    Raises:
        InputError: A setting is not of this form, or leads into something that has no fields.
    """
    body = copy.deepcopy(request)
    for setting in settings or ():
        key, separator, value = setting.partition("=")
        *parents, last = key.split(".")
        if not separator or not all((*parents, last)):
            raise InputError(f"--set {setting!r} is not KEY=VALUE.", "For example: --set finetune.precision=bf16.")
        target: Any = body
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise InputError(
                    f"--set {setting!r}: {parent} has no fields.", "See the schema at /docs of the service."
                )
        target[last] = _json_or_text(value)
    return body


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _number(what: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{what}: {text!r} is not a number.", "For example: 1.5.") from None
