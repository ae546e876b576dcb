"""Data sets of corrections: a manifest names images of feedback and their labels; splits follow from what they show."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from contract.datasets import Split
from contract.names import MAX_NAME, shorten
from registry.digests import place_of
from registry.errors import RequestRefusedError
from registry.intake.notes import name_some
from registry.intake.plan import sort_labels
from registry.tables import FeedbackRow

MAX_CORRECTIONS = 10_000
"""Maximum number of corrections in a data set."""

TEST_SHARE = VALIDATION_SHARE = 0.15
_MOST_NAMED = 5


def split_of(picture_sha256: str) -> Split:
    """Return the split of a picture: the same in every data set, about 70 : 15 : 15."""
    place = place_of(bytes.fromhex(picture_sha256))
    if place < TEST_SHARE:
        return "test"
    return "validation" if place < TEST_SHARE + VALIDATION_SHARE else "train"


@dataclass(frozen=True)
class Correction:
    """An image with the right label.

    Attributes:
        feedback_ids: Feedback with images that show this.
        image_sha256: The image file.
        picture_sha256: What it shows.
        label: The right label.
    """

    feedback_ids: tuple[str, ...]
    image_sha256: str
    picture_sha256: str
    label: str

    @property
    def split(self) -> Split:
        """The split that it belongs to."""
        return split_of(self.picture_sha256)


@dataclass(frozen=True)
class Manifest:
    """What a data set of corrections is made from.

    Attributes:
        corrections: The images, ordered by what they show.
        confused_with: Labels that were answered, and are the right one of no image.
    """

    corrections: tuple[Correction, ...]
    confused_with: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the data set, in label order."""
        return sort_labels({*(each.label for each in self.corrections), *self.confused_with})

    def to_bytes(self) -> bytes:
        """Return the manifest as JSON; the same feedback gives the same bytes."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the manifest that `to_bytes` wrote."""
        stored = json.loads(data)
        corrections = [
            Correction(**{**each, "feedback_ids": tuple(each["feedback_ids"])}) for each in stored["corrections"]
        ]
        return cls(tuple(corrections), tuple(stored["confused_with"]))


def compile_manifest(rows: Sequence[FeedbackRow]) -> Manifest:
    """Return the manifest of feedback, all of which has a label; images that show the same become one.

    Raises:
        RequestRefusedError: The same picture has several labels, or a class or a split would have no image to train or
            to choose alpha with.
    """
    by_picture: dict[str, list[FeedbackRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.id):
        by_picture[row.picture_sha256].append(row)
    _refuse_conflicts(by_picture)
    corrections = []
    for picture in sorted(by_picture):
        same = by_picture[picture]
        assert same[0].label is not None
        ids = tuple(row.id for row in same)
        corrections.append(Correction(ids, same[0].image_sha256, picture, same[0].label))
    require_splits((each.split, each.label) for each in corrections)
    right = {each.label for each in corrections}
    answered = {row.predicted for row in rows if row.predicted is not None and len(row.predicted) <= MAX_NAME}
    return Manifest(tuple(corrections), tuple(sorted(answered - right)))


def require_splits(images: Iterable[tuple[str, str]]) -> None:
    """Refuse images of which a patch could not be made.

    Args:
        images: Split and label of each.

    Raises:
        RequestRefusedError: A class has no train image, or no image is in validation or test.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for split, label in images:
        counts[split][label] += 1
    labels = {label for counted in counts.values() for label in counted}
    untrained = sorted(labels - counts["train"].keys())
    if untrained or not labels:
        missing = f"{len(untrained)} more images are needed there, one of each" if untrained else "no image is left"
        raise RequestRefusedError(
            "too_few_corrections",
            f"These classes have no image in train: {name_some(untrained, _MOST_NAMED)}; {missing}.",
            "The split of an image depends on what it shows: send more corrections of these classes, or leave them out "
            "with `ids` or `filter`.",
        )
    empty = [split for split in ("validation", "test") if not counts[split]]
    if empty:
        num_images = sum(counted.total() for counted in counts.values())
        raise RequestRefusedError(
            "too_few_corrections",
            f"None of the {num_images:,} images belongs to {' and '.join(empty)}; about 15 % belong to each.",
            "The split of an image depends on what it shows: send more corrections; with 20, all splits have images in "
            "9 of 10 cases.",
        )


def _refuse_conflicts(by_picture: Mapping[str, Sequence[FeedbackRow]]) -> None:
    conflicts = [rows for rows in by_picture.values() if len({row.label for row in rows}) > 1]
    if conflicts:
        told = [", ".join(f"{row.id} ({shorten(row.label or '')!r})" for row in rows[:4]) for rows in conflicts]
        more = f"; and {len(told) - _MOST_NAMED} more" if len(told) > _MOST_NAMED else ""
        raise RequestRefusedError(
            "conflicting_labels",
            f"Images that show the same have different labels: {'; '.join(told[:_MOST_NAMED])}{more}.",
            "Correct or dismiss all but one of each: PATCH /v1/feedback/{id}.",
        )
