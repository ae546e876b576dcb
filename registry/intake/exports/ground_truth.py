"""Amazon Rekognition Custom Labels and SageMaker Ground Truth: manifests, one JSON object a line.

A label attribute such as `"animal": 0` comes with `"animal-metadata"`, which has the `class-name`; with several labels,
the attribute is a list and the metadata has a `class-map`. Rekognition gives each label of an image an attribute of its
own. `ListDatasetEntries` returns the same lines as `{"DatasetEntries": ["{…}", …]}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from registry.intake.exports.rows import Document, ExportFormat, Row, fields, texts
from registry.intake.tables import load_json, read_json_objects

_METADATA = "-metadata"
_REGIONS = ("object-detection", "segmentation", "bounding", "polygon", "polyline", "keypoint")
_ADVICE = (
    "Export the image-level labels (`groundtruth/image-classification`), not those of object detection or segmentation."
)


def _is_line(data: Any) -> bool:
    return isinstance(data, dict) and isinstance(data.get("source-ref"), str)


def _is_page(data: Any) -> bool:
    entries = fields(data).get("DatasetEntries")
    return isinstance(entries, list) and bool(entries) and isinstance(entries[0], str)


def _rows_of_lines(document: Document) -> Iterator[Row]:
    for number, line in read_json_objects(document.path, document.entry.name):
        yield _row(number, fields(line))


def _rows_of_page(document: Document) -> Iterator[Row]:
    entries = fields(load_json(document.path, document.entry.name)).get("DatasetEntries")
    for number, entry in enumerate(entries if isinstance(entries, list) else [], 1):
        try:
            line = json.loads(entry)
        except (ValueError, TypeError, RecursionError):
            line = None
        yield _row(number, fields(line))


def _row(number: int, line: dict[str, Any]) -> Row:
    answers: list[tuple[str, Any]] = []
    has_regions = False
    for key in line:
        about = fields(line.get(f"{key}{_METADATA}"))
        if not about or key.endswith(_METADATA):
            continue
        if any(word in str(about.get("type", "")) for word in _REGIONS) or "annotations" in fields(line[key]):
            has_regions = True
        else:
            answers += [(key.removesuffix("-ref"), label) for label in _labels(line[key], about)]
    failed = any("failure-reason" in fields(value) for value in line.values())
    reason = "was not labelled: its metadata has a failure-reason" if failed else "has no label"
    return Row(number, texts(line.get("source-ref")), tuple(answers), has_regions=has_regions, reason=reason)


def _labels(value: Any, about: dict[str, Any]) -> list[Any]:
    names = fields(about.get("class-map"))
    if isinstance(value, list):
        return [names.get(str(each), each if isinstance(each, str) else None) for each in value]
    if "class-name" in about:
        return [about["class-name"]]
    name = names.get(str(value), value if isinstance(value, str) else None)
    return [] if name is None else [name]


MANIFEST = ExportFormat(
    "ground-truth", "a manifest of Amazon Rekognition or Ground Truth", _ADVICE, _rows_of_lines, _is_line, of_lines=True
)
ENTRIES = replace(MANIFEST, rows=_rows_of_page, is_object=_is_page, of_lines=False)
