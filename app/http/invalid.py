"""Validation errors in readable words, bounded in number and size."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from contract.names import shorten

MAX_LISTED = 20
"""Maximum number of errors in a response."""

_MAX_BUILT = 1000  # errors of pydantic that are looked at: to build one takes microseconds, to build millions a minute
_MAX_PART, _MAX_LOCATION, _MAX_MESSAGE = 40, 150, 240
_LISTS = re.compile("(list|tuple|set|frozen_set|iterable|sequence)_")
_OBJECTS = re.compile("(dict|mapping|model|dataclass)_")
_WORDS = {
    "string_pattern_mismatch": "String does not match the allowed format",
    "string_unicode": "Input should be valid Unicode text",
    "json_invalid": "Not valid JSON: {error}",
    "value_error": "{error}",
    "extra_forbidden": "is not a known field; see the schema at /docs",
}
"""Replacements for messages of pydantic that mention Python."""

_CONTAINER = re.compile("^(Tuple|Frozenset|Set|Dictionary)")
_INTERNAL = re.compile(r".*\[|function-|constrained-|lax-or-strict|nullable")  # how pydantic calls members of unions


class InvalidField(BaseModel):
    """One part of a request that cannot be used."""

    location: str = Field(description="Location in the request, such as `body.tasks.0`", examples=["body.name"])
    message: str = Field(description="Description of the error")


def refusal_of(error: ValidationError, *place: str, known: Collection[str] = ()) -> RequestValidationError:
    """Return the error for a request that a model rejected.

    Args:
        error: The model's.
        *place: Where in the request it occurred, such as `body`.
        known: The model's field names, to suggest one for an unknown field.

    Returns:
        An error that names the location of each problem.
    """
    items = [{**item, "loc": (*place, *item["loc"])} for item in items_of(error)]
    for item in items if known else ():
        if item["type"] == "extra_forbidden" and len(item["loc"]) == len(place) + 1:
            told = f"is not a known field: the fields are {', '.join(sorted(known))}"
            item |= {"type": "value_error", "ctx": {"error": told}}
    return RequestValidationError(items)


def items_of(error: ValidationError) -> list[dict[str, Any]]:
    """Return the details of a pydantic error; for thousands of errors only their number."""
    if error.error_count() > _MAX_BUILT:
        return [{"type": "value_error", "loc": (), "msg": f"has {error.error_count()} errors, too many to list"}]
    return [dict(item) for item in error.errors(include_url=False, include_input=False)]


def invalid(message: str, *place: str | int) -> RequestValidationError:
    """Return the error for one invalid part of a request.

    Args:
        message: What is wrong, as the end of a sentence.
        *place: Where it is, such as `query`, `limit`.
    """
    return RequestValidationError([{"type": "value_error", "loc": place, "msg": message}])


def describe_errors(items: Sequence[Mapping[str, Any]]) -> list[InvalidField]:
    """Return the first `MAX_LISTED` errors of pydantic or FastAPI in words that quote little of what was sent."""
    return [InvalidField(location=_location(item), message=_message(item)) for item in items[:MAX_LISTED]]


def drop_consequences(items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the errors without those that a wrong item causes: a list that ends with it is not found too short."""
    return [item for item in items if item["type"] != "too_short" or not _has_wrong_items(item["loc"], items)]


def _has_wrong_items(place: tuple[str | int, ...], items: Sequence[Mapping[str, Any]]) -> bool:
    return any(item["loc"][: len(place)] == place and len(item["loc"]) > len(place) for item in items)


def describe_first(error: ValidationError) -> str:
    """Return the first error in one line, for protocols with a single message."""
    first = describe_errors(items_of(error))[0]
    return f"{first.location}: {first.message}" if first.location else first.message


def _location(item: Mapping[str, Any]) -> str:
    parts = item["loc"]
    if item["type"] == "json_invalid":
        parts = parts[:1]  # the second is a position
    named = (shorten(str(part), _MAX_PART) for part in parts if not _INTERNAL.match(str(part)))
    return shorten(".".join(named), _MAX_LOCATION)


def _message(item: Mapping[str, Any]) -> str:
    kind, message = item["type"], item["msg"]
    if kind in ("too_short", "too_long"):
        message = _CONTAINER.sub(_name_container, message).replace(" after validation", "")
    elif kind in _WORDS:
        with suppress(KeyError):
            message = _WORDS[kind].format_map(item.get("ctx", {}))
    elif _LISTS.match(kind):
        message = "Input should be a list"
    elif _OBJECTS.match(kind):
        message = "Input should be an object"
    if "UploadFile" in message:
        message = "Input should be a file"
    return shorten(message.removeprefix("Value error, "), _MAX_MESSAGE)


def _name_container(found: re.Match[str]) -> str:
    return "Object" if found[0] == "Dictionary" else "List"
