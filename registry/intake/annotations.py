"""Annotations that are not one class an image: what is said about boxes, captions and several labels."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from contract.names import shorten
from registry.archives import quote_name
from registry.errors import ArchiveRefusedError

CONVERT_BOXES = (
    "Paintbox learns one class an image. Cut the boxes out and save each in a folder of its class, with Pillow's "
    "`Image.open(file).crop((left, top, right, bottom)).save(...)`, or export the data as classification (folder) data."
)
_BOX = re.compile(r"-?\d+(?:\s+-?\d*\.?\d+(?:e-?\d+)?){4,}")
_FEW, _MANY = 4, 20
_MOST_DIFFERENT = 0.8
_CAPTION_WORDS = 3


def several_labels(what: str) -> ArchiveRefusedError:
    """Return the error of images with several labels each."""
    return ArchiveRefusedError(
        "multi_label",
        f"{what}: these are several labels per image.",
        "Paintbox supports one class per image. Keep the images with one label, or choose a column with a single label "
        "with `label_column`.",
    )


def refuse_descriptions(labels: Collection[str]) -> None:
    """Refuse labels that describe one image each: captions, boxes, ids.

    Raises:
        ArchiveRefusedError: They are not classes.
    """
    boxes = next((label for label in labels if _BOX.match(label)), None)
    if boxes is not None:
        raise ArchiveRefusedError(
            "not_classes",
            f"The labels are YOLO bounding boxes ({shorten(boxes, 60)!r}).",
            CONVERT_BOXES,
        )
    different = set(labels)
    if len(labels) < _FEW or len(different) <= _MOST_DIFFERENT * len(labels):
        return
    words = sum(len(label.split()) for label in different) / len(different)
    if len(labels) >= _MANY or words >= _CAPTION_WORDS:
        raise ArchiveRefusedError(
            "not_classes",
            f"{len(different):,} of {len(labels):,} labels are different ({shorten(min(different), 60)!r}, …): they "
            "look like captions or ids of single images, not classes.",
            "Label each image with its class: choose another `label_column`, or use class folders.",
        )


_AS_EXPORT = (
    "Leave out `layout`, so that it is read as an export; with layout=label-studio or layout=fiftyone, the answer "
    "tells why it cannot be."
)


def refuse_known_json(name: str, data: Any) -> None:
    """Refuse JSON from annotation tools that does not give one class per image.

    Raises:
        ArchiveRefusedError: It is of a known kind; the advice says how to convert it.
    """
    first = data[0] if isinstance(data, list) and data else data
    keys = first.keys() if isinstance(first, dict) else frozenset()
    if isinstance(data, list) and "data" in keys and keys & {"annotations", "completions", "predictions"}:
        what, advice = "a Label Studio export", _AS_EXPORT
    elif isinstance(data, list) and {"image", "annotations"} <= keys:
        what, advice = "boxes in the format of CreateML", CONVERT_BOXES
    elif {"images", "annotations"} <= keys:
        what, advice = "COCO annotations", CONVERT_BOXES
    elif {"classes", "labels"} <= keys:
        what, advice = "a FiftyOne data set", _AS_EXPORT
    elif keys & {"_via_img_metadata", "shapes", "regions"}:
        what, advice = "regions in images", CONVERT_BOXES
    else:
        return
    raise ArchiveRefusedError("needs_conversion", f"{quote_name(name)} contains {what}.", advice)
