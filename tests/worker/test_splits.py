from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from registry.intake.plan import Image
from worker.splits import assign_splits


def _images(counts: dict[str, int], split: str | None = None) -> list[Image]:
    return [
        Image(f"{split}/{folder}/{index}.png", split, folder)
        for folder, count in counts.items()
        for index in range(count)
    ]


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 60), min_size=1))
def test_every_image_lands_in_exactly_one_split_and_every_class_stays_in_train(counts: dict[str, int]) -> None:
    images = _images(counts)
    splits = assign_splits(images)
    placed = [image for members in splits.values() for image in members]
    assert Counter(placed) == Counter(images)
    assert {image.label for image in splits["train"]} == set(counts)
    assert assign_splits(images) == splits


@given(st.integers(3, 500))
def test_a_tenth_of_each_class_is_held_out_for_test_and_for_validation(count: int) -> None:
    splits = assign_splits(_images({"cat": count}))
    assert len(splits["test"]) == len(splits["validation"]) == max(round(count / 10), 1)


def test_named_splits_are_kept_as_they_are() -> None:
    images = _images({"cat": 3}, "train") + _images({"cat": 2}, "validation") + _images({"cat": 4}, "test")
    splits = assign_splits(images)
    assert {name: len(members) for name, members in splits.items()} == {"train": 3, "validation": 2, "test": 4}


def test_a_missing_validation_split_is_a_tenth_of_train_as_in_the_paper() -> None:
    splits = assign_splits(_images({"cat": 30, "dog": 30}, "train") + _images({"cat": 5}, "test"))
    assert {name: len(members) for name, members in splits.items()} == {"train": 54, "validation": 6, "test": 5}


def test_a_missing_test_split_stays_missing_rather_than_taking_from_what_was_named() -> None:
    splits = assign_splits(_images({"cat": 10}, "train") + _images({"cat": 5}, "validation"))
    assert set(splits) == {"train", "validation"}
