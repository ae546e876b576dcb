"""Division of an upload into splits: by content, copies on one side, named test images never anything else."""

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.intake.plan import Image
from worker.splits import assign_splits


def _images(counts: dict[str, int], split: str | None = None) -> dict[Image, bytes]:
    """Images of different pictures."""
    return _digests([
        Image(f"{split}/{folder}/{index}.png", split, folder)
        for folder, count in counts.items()
        for index in range(count)
    ])  # fmt: skip


def _digests(images: list[Image], shows: str = "") -> dict[Image, bytes]:
    return {image: hashlib.sha256((shows or image.name).encode()).digest() for image in images}


def _sizes(images: dict[Image, bytes]) -> dict[str, int]:
    return {name: len(members) for name, members in assign_splits(images).splits.items()}


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 60), min_size=1))
def test_every_image_lands_in_exactly_one_split_and_every_class_stays_in_train(counts: dict[str, int]) -> None:
    images = _images(counts)
    splits = assign_splits(images).splits
    placed = [image for members in splits.values() for image in members]
    assert Counter(placed) == Counter(list(images))
    assert {image.label for image in splits["train"]} == set(counts)
    assert assign_splits(images).splits == splits


@pytest.mark.parametrize("split", [None, "train"])
@given(count=st.integers(3, 500))
def test_a_tenth_of_each_class_is_held_out_for_test_and_for_validation(split: str | None, count: int) -> None:
    division = assign_splits(_images({"cat": count}, split))
    assert len(division.splits["test"]) == len(division.splits["validation"]) == max(round(count / 10), 1)
    assert division.taken_from["test"] == division.taken_from["validation"] == ("train" if split else "all images")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), min_size=3, max_size=80))
def test_copies_are_on_one_side_wherever_they_lie_and_whatever_they_are_called(
    files: list[tuple[str, int]],
) -> None:
    for split in (None, "train"):
        images = {
            Image(f"{label}/{index}", split, label): hashlib.sha256(b"%d" % picture).digest()
            for index, (label, picture) in enumerate(files)
        }
        sides = assign_splits(images).splits
        for picture in set(images.values()):
            assert sum(any(images[image] == picture for image in members) for members in sides.values()) == 1
        renamed = {Image(f"x{i.name}", i.split, i.label): digest for i, digest in reversed(images.items())}
        for name, members in assign_splits(renamed).splits.items():
            assert {images[image] for image in sides[name]} == {renamed[image] for image in members}


def test_every_picture_twice_in_its_class_does_not_leak() -> None:
    twice = {
        Image(f"{folder}/{index}{copy}.png", None, folder): hashlib.sha256(f"{folder}{index}".encode()).digest()
        for folder in ("cat", "dog")
        for index in range(20)
        for copy in ("", " (1)")
    }
    splits = assign_splits(twice).splits
    assert {name: len(members) for name, members in splits.items()} == {"train": 64, "validation": 8, "test": 8}
    shown = [{twice[image] for image in members} for members in splits.values()]
    assert not shown[0] & shown[1] | shown[0] & shown[2] | shown[1] & shown[2]


def test_named_splits_are_kept_as_they_are() -> None:
    images = _images({"cat": 3}, "train") | _images({"cat": 2}, "validation") | _images({"cat": 4}, "test")
    assert _sizes(images) == {"train": 3, "validation": 2, "test": 4}
    assert assign_splits(images).taken_from == {}
    assert [*assign_splits(images).splits["train"]] == [image for image in images if image.split == "train"]


def test_a_missing_validation_split_is_a_tenth_of_train_as_in_the_paper() -> None:
    images = _images({"cat": 30, "dog": 30}, "train") | _images({"cat": 5}, "test")
    assert _sizes(images) == {"train": 54, "validation": 6, "test": 5}
    assert assign_splits(images).taken_from == {"validation": "train"}


def test_a_train_split_of_one_picture_a_class_gives_up_a_tenth_and_one_of_one_picture_nothing() -> None:
    test = _images({"0": 1}, "test")
    assert _sizes(_images({str(index): 1 for index in range(20)}, "train") | test)["validation"] == 2
    assert _sizes(_images({"0": 1}, "train") | test) == {"train": 1, "test": 1}


def test_without_a_test_split_validation_judges_and_a_tenth_of_train_chooses() -> None:
    images = _images({"cat": 30, "dog": 10}, "train") | _images({"cat": 5, "dog": 5}, "validation")
    division = assign_splits(images)
    assert {name: len(members) for name, members in division.splits.items()} == {
        "train": 36,
        "validation": 4,
        "test": 10,
    }
    assert {image.split for image in division.splits["test"]} == {"validation"}
    assert {image.split for image in division.splits["validation"]} == {"train"}
    assert division.taken_from == {"validation": "train", "test": "validation"}


def test_validation_alone_is_halved_and_test_images_are_never_anything_else() -> None:
    assert _sizes(_images({"cat": 9}, "validation")) == {"validation": 5, "test": 4}
    assert _sizes(_images({"cat": 9}, "test")) == {"test": 9}
    assert _sizes(_images({"cat": 9}, "test") | _images({"cat": 3}, "validation")) == {"validation": 3, "test": 9}


def test_classes_of_two_pictures_are_judged_together() -> None:
    images = _images({f"class {index}": 2 for index in range(30)})
    splits = assign_splits(images).splits
    assert {name: len(members) for name, members in splits.items()} == {"train": 48, "validation": 6, "test": 6}
    assert len({image.label for image in splits["train"]}) == 30
    assert set(_sizes(_images({f"class {index}": 1 for index in range(30)}))) == {"train"}


def test_one_picture_with_many_copies_does_not_take_a_whole_class_out_of_train() -> None:
    images = _digests([Image(f"a/{index}", None, "a") for index in range(9)], "much copied")
    images |= _images({"a": 3})
    division = assign_splits(images).splits
    assert {name: len(members) for name, members in division.items()} == {"train": 10, "validation": 1, "test": 1}
