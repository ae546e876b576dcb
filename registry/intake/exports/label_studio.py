"""Label Studio: its exports JSON, JSON_MIN and CSV of image classification with `Choices`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from registry.intake.exports.rows import (
    MAX_TEXT,
    Document,
    ExportFormat,
    Row,
    fields,
    first_object,
    objects,
    texts,
)
from registry.intake.names import EXTENSIONS
from registry.intake.tables import CsvForm, load_json, read_csv

_OWN = frozenset(
    {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "inner_id", "reviews"}
)
"""Keys of a flat row that are neither of the task's data nor an answer."""
_MARKS = frozenset({"annotator", "annotation_id", "lead_time"})
_REGIONS = ("x", "points", "rle", "vertices", "startOffset")
_ADVICE = (
    "The project marks regions. Add <Choices> for the whole image to its labelling configuration and export it as JSON."
)


def _is_tasks(data: Any) -> bool:
    first = first_object(data)
    return isinstance(first.get("data"), dict) and bool(first.keys() & {"annotations", "completions", "predictions"})


def _rows_of_tasks(document: Document) -> Iterator[Row]:
    for number, task in enumerate(objects(load_json(document.path, document.entry.name)), 1):
        done = objects(task.get("annotations")) + objects(task.get("completions"))
        done = [each for each in done if not each.get("was_cancelled")]
        done = [each for each in done if each.get("ground_truth")] or done
        results = [result for each in done for result in objects(each.get("result"))]
        answers = [
            (str(result.get("from_name") or ""), choice)
            for result in results
            for choice in _choices(fields(result.get("value")))
        ]
        yield Row(
            number,
            texts(*fields(task.get("data")).values(), task.get("file_upload")),
            tuple(dict.fromkeys((question, _plain(choice)) for question, choice in answers)),
            has_regions=any(_is_region(fields(result.get("value"))) for result in results),
            reason="has no annotation with a choice",
        )


def _choices(value: dict[str, Any]) -> list[Any]:
    """Return the choices of an answer about the whole image."""
    found = value.get("choices")
    if _is_region(value) or found is None:
        return []
    return found if isinstance(found, list) else [found]


def _is_region(value: dict[str, Any]) -> bool:
    return any(key in value for key in _REGIONS)


def _plain(choice: Any) -> Any:
    """Return a choice that can be a key of a dictionary."""
    return choice if isinstance(choice, str | int | float | bool) else str(choice)[:MAX_TEXT]


def _is_flat(data: Any) -> bool:
    return len(first_object(data).keys() & _MARKS) > 1


def _is_table(_name: str, form: CsvForm) -> bool:
    return form.has_header and len(_MARKS & set(form.header)) > 1


def _rows_of_list(document: Document) -> Iterator[Row]:
    for number, row in enumerate(objects(load_json(document.path, document.entry.name)), 1):
        yield _flat_row(number, row)


def _rows_of_table(document: Document) -> Iterator[Row]:
    form = document.form
    assert form is not None
    for number, cells in read_csv(document.path, document.entry.name, form.header, form):
        yield _flat_row(number, {key: _parsed(value) for key, value in cells.items()})


def _parsed(cell: Any) -> Any:
    """Return the JSON that a cell holds, if it begins like an object or a list; else its text."""
    if not isinstance(cell, str) or cell[:1] not in ("{", "["):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def _flat_row(number: int, row: dict[str, Any]) -> Row:
    """Return the image of a row in which the task's data and the answers lie side by side."""
    others = {key: value for key, value in row.items() if key not in _OWN and value not in (None, "")}
    paths = {key: value for key, value in others.items() if isinstance(value, str) and _is_path(value)}
    answers: list[tuple[str, Any]] = []
    has_regions = False
    for key in others.keys() - paths.keys():
        value = others[key]
        listed = value if isinstance(value, list) else [value]
        has_regions |= any(_is_region(fields(each)) for each in listed)
        for each in listed:
            found = _choices(each) if isinstance(each, dict) else [each]
            answers += [(key, _plain(choice)) for choice in found]
    return Row(number, texts(*paths.values()), tuple(sorted(answers, key=str)), has_regions=has_regions)


def _is_path(value: str) -> bool:
    """Return whether text is a path or a URI of an image, not the name of a class."""
    return value.startswith("/") or "://" in value or value.lower().endswith(EXTENSIONS)


TASKS = ExportFormat(
    "label-studio", "a Label Studio export", _ADVICE, _rows_of_tasks, is_object=_is_tasks, has_questions=True
)
LIST = replace(TASKS, rows=_rows_of_list, is_object=_is_flat)
TABLE = replace(TASKS, rows=_rows_of_table, is_object=lambda data: False, is_table=_is_table)
