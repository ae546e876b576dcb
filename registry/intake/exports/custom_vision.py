"""Azure Custom Vision: the list of images that its training API returns (`GetImages`, `GetTaggedImages`).

The service has no export of labelled images, so people save the pages of this list beside the downloaded images. Keys
are read in the spelling of the REST API (`originalImageUri`) and of the Python SDK (`original_image_uri`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from registry.intake.exports.rows import Document, ExportFormat, Row, first_object, objects, texts
from registry.intake.tables import load_json

_URIS = ("originalimageuri", "imageuri", "resizedimageuri", "downloaduri")
_FILES = ("filename", "file", "filepath", "path", "localpath", "imagepath")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("_", "").casefold(): value for key, value in row.items()}


def _is_export(data: Any) -> bool:
    first = _plain(first_object(data))
    tags = [_plain(tag) for tag in objects(first.get("tags"))]
    is_image = any(uri in first for uri in (*_URIS, "thumbnailuri"))
    return "id" in first and (any("tagname" in tag for tag in tags) or (is_image and "tags" in first))


def _rows(document: Document) -> Iterator[Row]:
    for number, found in enumerate(objects(load_json(document.path, document.entry.name)), 1):
        row = _plain(found)
        tags = [_plain(tag) for tag in objects(row.get("tags"))]
        regions = objects(row.get("regions"))
        yield Row(
            number,
            texts(*(row.get(key) for key in _FILES), row.get("id"), *(row.get(key) for key in _URIS)),
            () if regions else tuple(("", tag.get("tagname")) for tag in tags),
            has_regions=bool(regions),
            reason="has no tag",
        )


CUSTOM_VISION = ExportFormat(
    "custom-vision",
    "images of Azure Custom Vision",
    "This is a detection project: its tags belong to regions. Export a classification project.",
    _rows,
    is_object=_is_export,
)
