"""COCO's JSON with classes of whole images, as the migration tools of Azure Custom Vision write it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from registry.intake.annotations import CONVERT_BOXES
from registry.intake.exports.rows import Document, ExportFormat, Row, fields, objects, texts
from registry.intake.tables import load_json

_REGIONS = ("bbox", "segmentation", "keypoints", "caption", "segments_info")


def _is_export(data: Any) -> bool:
    """Return whether an annotation gives a class to a whole image; all others are left to `known.explain`."""
    found = fields(data)
    names = {str(each.get("id")) for each in objects(found.get("categories"))}
    return isinstance(found.get("images"), list) and any(
        str(each.get("category_id")) in names and not _is_region(each) for each in objects(found.get("annotations"))
    )


def _is_region(annotation: dict[str, Any]) -> bool:
    return any(annotation.get(key) for key in _REGIONS)


def _rows(document: Document) -> Iterator[Row]:
    data = fields(load_json(document.path, document.entry.name))
    names = {str(each.get("id")): each.get("name") for each in objects(data.get("categories"))}
    answers: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    regions = set()
    for each in objects(data.get("annotations")):
        image = str(each.get("image_id"))
        if _is_region(each):
            regions.add(image)
        elif (name := names.get(str(each.get("category_id")))) is not None:
            answers[image].append(("", name))
    for number, each in enumerate(objects(data.get("images")), 1):
        image = str(each.get("id"))
        paths = texts(each.get("file_name"), each.get("coco_url"), each.get("absolute_url"))
        yield Row(number, paths, tuple(answers.get(image, ())), has_regions=image in regions)


COCO = ExportFormat("coco", "COCO annotations", CONVERT_BOXES, _rows, is_object=_is_export)
