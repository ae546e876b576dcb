"""Pictures that a data set holds more than once. Across splits that is leakage: a score on them says nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from contract.names import MAX_NAME, shorten
from registry.intake.plan import Image

MAX_EXAMPLES = 10
_FILES_PER_EXAMPLE = 4


def find_duplicates(splits: Mapping[str, Sequence[Image]], digests: Mapping[str, bytes]) -> dict[str, Any]:
    """Return which pictures occur more than once, in the form of `app.datasets.schemas.Duplicates`.

    Equal pictures decode to equal pixels, whatever the files' format or metadata. Nothing is removed. `digests` are
    those of what each image shows, by the image's name.
    """
    places = _find_repeated(splits, digests)
    leaks = [found for found in places if len({split for split, _ in found}) > 1]
    pairs = Counter(", ".join(dict.fromkeys(split for split, _ in found)) for found in leaks)
    return {
        "across_splits": len(leaks),
        "by_splits": dict(pairs),
        "within_splits": sum(len(found) - len({split for split, _ in found}) for found in places),
        "with_different_labels": sum(len({image.label for _, image in found}) > 1 for found in places),
        "examples": [_tell(found) for found in leaks[:MAX_EXAMPLES]],
    }


def _find_repeated(
    splits: Mapping[str, Sequence[Image]], digests: Mapping[str, bytes]
) -> list[list[tuple[str, Image]]]:
    """Return where each picture is that occurs more than once."""
    counts = Counter(digests[image.name] for images in splits.values() for image in images)
    places: dict[bytes, list[tuple[str, Image]]] = defaultdict(list)
    for split, images in splits.items():
        for image in images:
            if counts[digests[image.name]] > 1:
                places[digests[image.name]].append((split, image))
    return list(places.values())


def _tell(found: Sequence[tuple[str, Image]]) -> dict[str, Any]:
    """Return one file of each split first, so that a short example shows the leak."""
    first = {split: image for split, image in reversed(found)}
    ordered = [(split, image) for split, image in found if first[split] is image]
    ordered += [(split, image) for split, image in found if first[split] is not image]
    return {
        "num_files": len(found),
        "files": [
            {"split": split, "file": shorten(image.name, MAX_NAME)} for split, image in ordered[:_FILES_PER_EXAMPLE]
        ],
    }
