"""What every export says about an image, and how a format is described."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.intake.names import Entry, Parts
from registry.intake.tables import CsvForm

MAX_TEXT = 4096  # characters of a path or label that are kept


@dataclass(frozen=True, slots=True)
class Row:
    """One image of an export.

    Attributes:
        number: Of the row in its document, from 1.
        paths: How the export names the file, best first: paths, URIs, or ids that are the file's stem.
        answers: `(question, label)` of every class that the image has; the question is empty if there is only one.
        split: Name of its split; None: the export names none.
        has_regions: Whether it has boxes, polygons, keypoints or masks.
        reason: Why there is no answer, as it completes "the row …".
    """

    number: int
    paths: tuple[str, ...]
    answers: tuple[tuple[str, Any], ...] = ()
    split: str | None = None
    has_regions: bool = False
    reason: str = "has no label"


@dataclass(frozen=True)
class Document:
    """A file of labels: where it is in the upload, a copy on disk, and its form if it is a CSV."""

    entry: Entry
    parts: Parts
    path: Path
    form: CsvForm | None = None


@dataclass(frozen=True)
class ExportFormat:
    """A format of exports.

    Attributes:
        name: Of the layout.
        what: It is, for messages: "contains a Label Studio export".
        advice: What to export instead of boxes or regions.
        rows: Yields the images of a document.
        is_object: Whether the data of a JSON document, or the object of its first line, has this format.
        is_table: Whether a CSV has this format, by its name in lower case and its header.
        of_lines: Whether `is_object` is about a line of JSON lines.
        has_questions: Whether an image may be asked about more than one thing; then one question is to be chosen.
    """

    name: str
    what: str
    advice: str
    rows: Callable[[Document], Iterator[Row]]
    is_object: Callable[[Any], bool] = lambda data: False
    is_table: Callable[[str, CsvForm], bool] = lambda name, form: False
    of_lines: bool = False
    has_questions: bool = False


def texts(*values: Any) -> tuple[str, ...]:
    """Return the values that are text and not empty, each once and cut to the length of a path."""
    found = (value.strip()[:MAX_TEXT] for value in values if isinstance(value, str))
    return tuple(dict.fromkeys(filter(None, found)))


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a JSON list; none if the value is something else."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def fields(value: Any) -> dict[str, Any]:
    """Return a JSON object; an empty one if the value is something else."""
    return value if isinstance(value, dict) else {}


def first_object(data: Any) -> dict[str, Any]:
    """Return the first member of a JSON list of objects; empty if there is none."""
    return fields(data[0]) if isinstance(data, list) and data else {}
