"""Manifests of corrections: one image for each picture, splits by what it shows, and what is refused."""

import hashlib
from collections import Counter

import pytest

from contract.feedback import FeedbackSource, FeedbackState
from registry.corrections import Manifest, compile_manifest, require_splits, split_of
from registry.database import utc_now
from registry.digests import find_digests, pack_digests
from registry.errors import RequestRefusedError
from registry.tables import FeedbackRow


def picture(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def in_split(split: str, count: int) -> list[str]:
    """The digests of so many pictures of a split."""
    numbers = (picture(number) for number in range(10_000))
    return [each for each in numbers if split_of(each) == split][:count]


def row(shows: str, label: str, predicted: str | None = None, identifier: str = "") -> FeedbackRow:
    now = utc_now()
    return FeedbackRow(
        id=identifier or f"fb_{shows[:8]}{label}",
        source=FeedbackSource.SENT,
        state=FeedbackState.OPEN,
        image_sha256=shows,
        picture_sha256=shows,
        num_bytes=1,
        label=label,
        predicted=predicted,
        created_at=now,
        updated_at=now,
    )


def complete() -> list[FeedbackRow]:
    """Corrections of two classes in all splits."""
    train = [row(each, ("cat", "dog")[place % 2], "fox") for place, each in enumerate(in_split("train", 4))]
    return [*train, row(in_split("validation", 1)[0], "cat", "dog"), row(in_split("test", 1)[0], "dog", "x" * 300)]


def test_about_seventy_percent_are_for_training() -> None:
    counts = Counter(split_of(picture(number)) for number in range(5000))
    assert counts["train"] == pytest.approx(3500, abs=100)
    assert counts["validation"] == pytest.approx(750, abs=80)


def test_a_manifest_is_the_same_whatever_the_order_and_survives_being_stored() -> None:
    rows = complete()
    manifest = compile_manifest(rows)
    assert compile_manifest(rows[::-1]).to_bytes() == manifest.to_bytes()
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert manifest.classes == ("cat", "dog", "fox")  # what it was confused with is a class, unless it is no name
    assert len(manifest.corrections) == 6


def test_images_that_show_the_same_are_one_and_their_labels_must_agree() -> None:
    rows = complete()
    same = row(rows[0].picture_sha256, "cat", identifier="fb_z")
    (both,) = [each for each in compile_manifest([*rows, same]).corrections if len(each.feedback_ids) > 1]
    assert both.feedback_ids == (rows[0].id, "fb_z")
    with pytest.raises(RequestRefusedError) as caught:
        compile_manifest([*rows, row(rows[0].picture_sha256, "dog", identifier="fb_z")])
    assert caught.value.code == "conflicting_labels"
    assert "fb_z ('dog')" in caught.value.detail
    assert rows[0].id in caught.value.detail


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([("train", "a"), ("test", "b"), ("validation", "c")], "train: 'b', 'c'; 2 more images are needed"),
        ([("train", "a"), ("validation", "a")], "None of the 2 images belongs to test;"),
        ([("train", "a")], "belongs to validation and test"),
        ([], "no image is left"),
    ],
)
def test_what_no_patch_could_use_is_refused_with_what_is_missing(images: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(RequestRefusedError, match="image") as caught:
        require_splits(images)
    assert caught.value.code == "too_few_corrections"
    assert said in caught.value.detail


def test_digests_are_found_in_a_blob() -> None:
    known = [bytes.fromhex(picture(number)) for number in range(9)]
    packed = pack_digests([*known, known[0]])
    assert len(packed) == 9 * 32
    assert list(find_digests(packed, {known[4], bytes(32)})) == [known[4]]
    assert list(find_digests(b"", {known[4]})) == []
