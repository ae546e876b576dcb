"""Google Vertex AI: JSON lines and CSV of its image data sets, as it imports and exports them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from registry.intake.exports.rows import Document, ExportFormat, Row, fields, objects, texts
from registry.intake.tables import CsvForm, read_csv, read_json_objects

_ML_USE = "aiplatform.googleapis.com/ml_use"
_USES = ("train", "training", "validation", "validate", "test", "unassigned")
_REGIONS = (
    *("boundingBoxAnnotations", "polygonAnnotations", "polylineAnnotations", "segmentationAnnotation"),
    *("segmentationAnnotations", "categoryMaskUri"),
)
_NUMBER = re.compile(r"[01]?\.?\d*(?:e-?\d+)?")
_MAX_CELLS, _COORDINATES, _CORNERS = 40, 8, 4
_COLUMNS = tuple(str(number) for number in range(1, _MAX_CELLS + 1))


def _is_line(data: Any) -> bool:
    return isinstance(data, dict) and isinstance(data.get("imageGcsUri"), str)


def _rows_of_lines(document: Document) -> Iterator[Row]:
    for number, found in read_json_objects(document.path, document.entry.name):
        line = fields(found)
        given = [fields(line.get("classificationAnnotation")), *objects(line.get("classificationAnnotations"))]
        yield Row(
            number,
            texts(line.get("imageGcsUri")),
            tuple(("", each["displayName"]) for each in given if each.get("displayName") is not None),
            _split(fields(line.get("dataItemResourceLabels")).get(_ML_USE)),
            has_regions=any(line.get(key) for key in _REGIONS),
        )


def _is_table(_name: str, form: CsvForm) -> bool:
    return any(cell.startswith("gs://") for cell in form.first_row[:2])


def _rows_of_table(document: Document) -> Iterator[Row]:
    assert document.form is not None
    form = replace(document.form, header=_COLUMNS, has_header=False)
    for number, cells in read_csv(document.path, document.entry.name, _COLUMNS, form):
        yield _row([str(cells.get(column) or "").strip() for column in _COLUMNS], number)


def _row(cells: Sequence[str], number: int) -> Row:
    """Return the image of `[ML_USE,]URI[,LABEL]…`; a box is a label with eight cells of coordinates."""
    split = cells[0] if cells[0].lower() in _USES or not cells[0] else None
    uri, *labels = cells[0 if split is None else 1 :]
    corners = labels[1 : 1 + _COORDINATES]
    has_box = sum(map(bool, corners)) >= _CORNERS and all(_NUMBER.fullmatch(cell) for cell in corners)
    answers = () if has_box else tuple(("", label) for label in labels if label)
    return Row(number, texts(uri), answers, _split(split), has_regions=has_box)


def _split(use: Any) -> str | None:
    name = str(use or "").strip().lower()
    return None if name in ("", "unassigned") else "validation" if name == "validate" else name


LINES = ExportFormat(
    "vertex-ai",
    "a Vertex AI data set",
    "Export the annotation set of single-label classification, not that of object detection or segmentation.",
    _rows_of_lines,
    _is_line,
    of_lines=True,
)
TABLE = replace(LINES, rows=_rows_of_table, is_object=lambda data: False, is_table=_is_table, of_lines=False)
