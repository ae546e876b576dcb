"""FiftyOne: `FiftyOneImageClassificationDataset`, images in `data/` and their classes in `labels.json`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from registry.intake.exports.rows import Document, ExportFormat, Row, fields, texts
from registry.intake.tables import load_json

_ADVICE = (
    "Export the classification field: `dataset.export(export_dir='out', "
    "dataset_type=fiftyone.types.ImageClassificationDirectoryTree, label_field=...)`."
)


def _is_export(data: Any) -> bool:
    found = fields(data)
    return isinstance(found.get("labels"), dict) and isinstance(found.get("classes", ()), list | None)


def _rows(document: Document) -> Iterator[Row]:
    data = fields(load_json(document.path, document.entry.name))
    classes = data.get("classes")
    for number, (key, value) in enumerate(fields(data.get("labels")).items(), 1):
        values = value if isinstance(value, list) else [value]
        regions = any("bounding_box" in fields(each) or "points" in fields(each) for each in values)
        names = [_name(each, classes if isinstance(classes, list) else ()) for each in values]
        answers = () if regions else tuple(("", name) for name in names if name is not None)
        yield Row(number, texts(f"data/{key}", key), answers, has_regions=regions)


def _name(value: Any, classes: Sequence[Any]) -> Any:
    """Return the class of a label, which is a name, an index of `classes`, or an object with one of them."""
    label = value.get("label") if isinstance(value, dict) else value
    if isinstance(label, int) and not isinstance(label, bool) and classes:
        return classes[label] if 0 <= label < len(classes) else None
    return label


FIFTYONE = ExportFormat("fiftyone", "a FiftyOne data set", _ADVICE, _rows, is_object=_is_export)
