"""Which image goes into which split, where the uploader did not say."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from registry.intake.plan import Image

TEST_FRACTION = 0.1
VALIDATION_FRACTION = 0.1
_SEED = 0
_ORDER = ("train", "validation", "test")


def assign_splits(images: Sequence[Image]) -> dict[str, list[Image]]:
    """Return the images by split, splits in the order train, validation, test, empty ones left out.

    An archive without split folders is divided 80 : 10 : 10 within each class. One with a train split but no
    validation split gives the paper's validation split: 10 % of train, at most 5000 images, seed 0.

    Args:
        images: Accepted images, in a stable order; either all or none name a split.

    Returns:
        Every image once, under the split that it goes into.
    """
    splits: dict[str, list[Image]] = {name: [] for name in _ORDER}
    if images[0].split is None:
        _divide(images, splits)
    else:
        for image in images:
            assert image.split is not None
            splits[image.split].append(image)
        if splits["train"] and not splits["validation"]:
            _hold_out(splits)
    return {name: members for name, members in splits.items() if members}


def _divide(images: Sequence[Image], splits: dict[str, list[Image]]) -> None:
    by_class: dict[str, list[Image]] = defaultdict(list)
    for image in images:
        by_class[image.label].append(image)
    generator = random.Random(_SEED)
    for folder in sorted(by_class):
        members = by_class[folder]
        generator.shuffle(members)
        num_test = _share(len(members), TEST_FRACTION)
        num_validation = _share(len(members), VALIDATION_FRACTION)
        splits["test"] += members[:num_test]
        splits["validation"] += members[num_test : num_test + num_validation]
        splits["train"] += members[num_test + num_validation :]


def _share(num_images: int, fraction: float) -> int:
    """Return at least one image for the split, as long as train keeps one too."""
    return max(round(num_images * fraction), 1) if num_images >= 3 else 0


def _hold_out(splits: dict[str, list[Image]]) -> None:
    from paint_core.datasets import split_off_validation  # brings torch, which ingest rarely needs

    train = splits["train"]
    kept, held_out = split_off_validation(len(train))
    splits["train"] = [train[int(index)] for index in kept]
    splits["validation"] = [train[int(index)] for index in held_out]
