"""The splits of a data set: those that the upload names, completed by content.

Pictures are divided in the order of their digests, so that all copies of a picture are in one split, and neither file
names nor the rest of the upload matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from registry.intake.plan import Image

TEST_FRACTION = 0.1
VALIDATION_FRACTION = 0.1
MAX_HELD_OUT = 5000
"""Maximum number of validation images held out of a train split, as in the paper."""
_WHOLE = "all images"
_ORDER = ("train", "validation", "test")

Copies = list[Image]
"""Files of one picture."""


@dataclass(frozen=True)
class Division:
    """Images by split, and their origin.

    Attributes:
        splits: Every image once; splits in the order train, validation, test, without empty ones.
        taken_from: The upload's split that a split was taken from, if it has another name.
    """

    splits: dict[str, list[Image]]
    taken_from: dict[str, str] = field(default_factory=dict)


def assign_splits(digests: Mapping[Image, bytes]) -> Division:
    """Return the images by split.

    Without named splits, or with train alone, each class is divided 80 : 10 : 10. With train and test, a tenth of train
    (at most 5000) becomes validation, as in the paper. With train and validation, validation becomes test, and a tenth
    of train the new validation, as the paper does with ImageNet. Validation alone is halved. Named test images always
    stay test images.

    Args:
        digests: Accepted images in a stable order, with digests of what they show; either all or none name a split.
    """
    splits, taken_from = _choose(digests)
    where = {image: name for name, pictures in splits.items() for copies in pictures for image in copies}
    members: dict[str, list[Image]] = {name: [] for name in _ORDER}
    for image in digests:
        members[where[image]].append(image)
    kept = {name: images for name, images in members.items() if images}
    return Division(kept, {name: origin for name, origin in taken_from.items() if name in kept and name != origin})


def _choose(digests: Mapping[Image, bytes]) -> tuple[dict[str, list[Copies]], dict[str, str]]:
    """Return the pictures by split, and the origin of each split."""
    named: dict[str, list[Image]] = defaultdict(list)
    for image in digests:
        named[image.split or _WHOLE].append(image)
    pictures = {split: _group(images, digests) for split, images in named.items()}
    for whole in (_WHOLE, "train"):
        if set(pictures) == {whole}:
            return _divide(pictures[whole]), dict.fromkeys(_ORDER, whole)
    if set(pictures) == {"validation"}:
        test, validation = _take(pictures["validation"], len(named["validation"]) // 2)
        return {"validation": validation, "test": test}, {"test": "validation"}
    if "train" not in pictures or {"validation", "test"} <= set(pictures):
        return pictures, {}
    num_held_out = _num_held_out(len(named["train"]))
    held_out, train = _take(pictures["train"], num_held_out)
    if not held_out and len(pictures["train"]) > 1:  # classes of one picture: some of them are not trained on
        held_out, train = pictures["train"][:num_held_out], pictures["train"][num_held_out:]
    if not held_out:
        return pictures, {}
    origins = {"validation": "train"} | ({} if "test" in pictures else {"test": "validation"})
    test = pictures.get("test", pictures.get("validation", []))
    return {"train": train, "validation": held_out, "test": test}, origins


def _group(images: Iterable[Image], digests: Mapping[Image, bytes]) -> list[Copies]:
    """Return the pictures in the order of their digests, each with all its files."""
    groups: dict[bytes, Copies] = defaultdict(list)
    for image in images:
        groups[digests[image]].append(image)
    return [groups[digest] for digest in sorted(groups)]


def _divide(pictures: list[Copies]) -> dict[str, list[Copies]]:
    by_class: dict[str, list[Copies]] = defaultdict(list)
    for copies in pictures:
        by_class[_label(copies)].append(copies)
    splits: dict[str, list[Copies]] = {name: [] for name in _ORDER}
    for members in by_class.values():
        num_images = sum(map(len, members))
        test, rest = _take(members, _share(len(members), num_images, TEST_FRACTION))
        validation, train = _take(rest, _share(len(members), num_images, VALIDATION_FRACTION))
        for name, taken in (("train", train), ("validation", validation), ("test", test)):
            splits[name] += taken
    if not splits["test"]:  # classes of one or two pictures: some of them are judged by none
        num_images = sum(map(len, pictures))
        splits["test"], splits["train"] = _take(pictures, _num_held_out(num_images))
        splits["validation"], splits["train"] = _take(splits["train"], _num_held_out(num_images))
    return splits


def _share(num_pictures: int, num_images: int, fraction: float) -> int:
    """Return at least one image for the split, as long as train keeps one too."""
    return max(round(num_images * fraction), 1) if num_pictures >= 3 else 0


def _num_held_out(num_images: int) -> int:
    return max(1, min(int(num_images * VALIDATION_FRACTION), MAX_HELD_OUT))


def _take(pictures: list[Copies], num_images: int) -> tuple[list[Copies], list[Copies]]:
    """Return pictures with about so many images, and the others, in which every class keeps a picture."""
    left: dict[str, int] = defaultdict(int)
    for copies in pictures:
        left[_label(copies)] += 1
    taken: set[int] = set()
    for index, copies in enumerate(pictures):
        if len(copies) <= num_images and left[_label(copies)] > 1:
            left[_label(copies)] -= 1
            num_images -= len(copies)
            taken.add(index)
    if not taken and num_images > 0:  # every picture has more copies than that
        spare = (index for index, copies in enumerate(pictures) if left[_label(copies)] > 1)
        taken.update(sorted(spare, key=lambda index: len(pictures[index]))[:1])
    kept = [copies for index, copies in enumerate(pictures) if index not in taken]
    return [pictures[index] for index in sorted(taken)], kept


def _label(copies: Copies) -> str:
    """Return the class that a picture counts for, whatever the order of its files."""
    return min(image.label for image in copies)
