"""What the command line's options mean: `ID=NUMBER`, `KEY=VALUE` and the like."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from paintbox_client.client import JsonObject
from paintbox_client.errors import InputError


def parse_drops(values: Sequence[str] | None) -> float | dict[str, float] | None:
    """Return points for all supported tasks, or points by data set id.

    Args:
        values: Each `POINTS` or `ID=POINTS`; the first form stands alone.

    Returns:
        None if there are no values.

    Raises:
        InputError: A value is neither, or both forms are there.
    """
    if not values:
        return None
    if len(values) == 1 and "=" not in values[0]:
        return _number("--max-drop", values[0])
    drops = {}
    for value in values:
        identifier, separator, points = value.partition("=")
        if not separator or not identifier:
            raise InputError(
                f"--max-drop {value!r} does not say whose drop it limits.",
                "Give one number for all supported tasks, or ID=POINTS for each.",
            )
        drops[identifier] = _number("--max-drop", points)
    return drops


def parse_factor(value: str) -> tuple[str, float]:
    """Return what `ID` or `ID=FACTOR` names, and the factor, 1 where there is none."""
    identifier, separator, factor = value.partition("=")
    return identifier, _number(identifier, factor) if separator else 1.0


def parse_version(value: str) -> int:
    """Return the number of a version.

    Args:
        value: As typed.

    Returns:
        The number.

    Raises:
        InputError: It is none.
    """
    try:
        return int(value)
    except ValueError:
        raise InputError(f"{value!r} is not a version's number.", "`paintbox versions` lists them.") from None


def parse_settings(request: JsonObject, settings: Sequence[str] | None) -> JsonObject:
    """Return the request with further fields set.

    Args:
        request: Body of a request; not changed.
        settings: Each `KEY=VALUE`; dots in the key lead into the body, the value is JSON or, failing that, text.

    Returns:
        Another body.

    Raises:
        InputError: A setting is not of this form, or leads through something that has no fields.
    """
    body = copy.deepcopy(request)
    for setting in settings or ():
        key, separator, value = setting.partition("=")
        *parents, last = key.split(".")
        if not separator or not all((*parents, last)):
            raise InputError(f"--set {setting!r} is not KEY=VALUE.", "Write, say, --set finetune.precision=bf16.")
        target: Any = body
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise InputError(f"--set {setting!r}: {parent} has no fields.", "See the schema at /docs.")
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
        raise InputError(f"{what}: {text!r} is not a number.", "Write, say, 1.5.") from None
