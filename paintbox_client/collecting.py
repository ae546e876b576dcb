"""`paintbox datasets collect`: its arguments as the sources of a request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from paintbox_client.client import Client
from paintbox_client.errors import InputError

_SPLITS = ("train", "validation", "test")
_ROWS = re.compile(r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*", re.ASCII)
_MAX_ROWS = 100_000
_FORM = "Use DATASET, DATASET:SPLIT, DATASET:SPLIT:0-9,12 or DATASET:SPLIT:label=CLASS."


def parse_sources(client: Client, texts: Sequence[str], goal: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sources that `--from` names.

    Args:
        client: To look up data sets.
        texts: `DATASET`, `DATASET:SPLIT`, `DATASET:SPLIT:ROWS` or `DATASET:SPLIT:label=CLASS`; SPLIT may be empty.
        goal: `as_split` and `as_label`, for all of them.

    Raises:
        InputError: A text has another form.
    """
    return [_parse_source(client, text) | goal for text in texts]


def _parse_source(client: Client, text: str) -> dict[str, Any]:
    name, _, rest = text.partition(":")
    split, _, chosen = rest.partition(":")
    source: dict[str, Any] = {"dataset": client.find("dataset", name, is_used=True)}
    if split and split not in _SPLITS:
        raise InputError(f"--from {text!r}: {split!r} is not a split.", _FORM)
    if split:
        source["split"] = split
    if chosen.startswith("label="):
        source["label"] = chosen.removeprefix("label=")
    elif chosen:
        source["rows"] = list(_parse_rows(text, chosen))
    return source


def _parse_rows(text: str, chosen: str) -> Iterator[int]:
    """Yield the rows of `3,7-9`."""
    if not _ROWS.fullmatch(chosen):
        raise InputError(f"--from {text!r}: {chosen!r} is neither rows nor label=CLASS.", _FORM)
    num_rows = 0
    for part in chosen.split(","):
        first, _, last = part.partition("-")
        rows = range(int(first), int(last or first) + 1)
        num_rows += len(rows)
        if not rows or num_rows > _MAX_ROWS:
            raise InputError(f"--from {text!r}: {part!r} names no or too many rows.", _FORM)
        yield from rows
