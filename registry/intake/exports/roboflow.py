"""Roboflow: the table `_classes.csv` of its multi-label export; its folder export is an `imagefolder`."""

from __future__ import annotations

from collections.abc import Iterator

from registry.intake.exports.rows import Document, ExportFormat, Row, texts
from registry.intake.tables import CsvForm, read_csv

_NAME = "_classes.csv"
_HOT = ("1", "1.0", "true")
_UNLABELLED = "unlabeled"


def _is_table(name: str, form: CsvForm) -> bool:
    return name == _NAME and form.has_header and len(form.header) > 1


def _rows(document: Document) -> Iterator[Row]:
    form = document.form
    assert form is not None
    file, *classes = form.header
    for number, cells in read_csv(document.path, document.entry.name, form.header, form):
        hot = [name for name in classes if str(cells.get(name) or "").strip().lower() in _HOT]
        yield Row(number, texts(cells.get(file)), tuple(("", name) for name in hot if name.casefold() != _UNLABELLED))


ROBOFLOW = ExportFormat(
    "roboflow",
    "a Roboflow export",
    "In Roboflow, export a classification project as Folder Structure or Multi-Label Classification.",
    _rows,
    is_table=_is_table,
)
