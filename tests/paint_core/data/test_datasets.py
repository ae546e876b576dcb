from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paint_core.data import LabelledImages, Task, decode_all, load_image_folder, split_off_validation
from paint_core.errors import ArgumentError, DatasetError, EmptySplitError, HeadError, ImageDecodeError
from paint_core.images.preprocess import Preprocess
from tests.paint_core import tiny

PREPROCESS = Preprocess({"size": 16})
IMAGES, LABELS = torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (IMAGES.float(), LABELS),
        (IMAGES.permute(0, 3, 1, 2), LABELS),
        (IMAGES[:, :, :2], LABELS),
        (IMAGES, LABELS.int()),
        (IMAGES, LABELS[:1]),
        (IMAGES, LABELS + 1),
        (IMAGES, LABELS - 1),
    ],
)
def test_images_and_labels_that_contradict_each_other_are_refused(images: torch.Tensor, labels: torch.Tensor) -> None:
    with pytest.raises(DatasetError):
        LabelledImages(images, labels, ("a", "b"))


def test_a_split_without_images_is_refused() -> None:
    with pytest.raises(EmptySplitError):
        LabelledImages(IMAGES[:0], LABELS[:0], ("a", "b"))
    with pytest.raises(EmptySplitError):
        decode_all([], PREPROCESS, ["a"])


def test_a_subset_is_a_copy_in_the_given_order() -> None:
    whole = LabelledImages(IMAGES, LABELS, ("a", "b"))
    part = whole.subset([1])
    part.images.fill_(9)
    assert part.labels.tolist() == [1]
    assert whole.images.sum() == 0


@pytest.mark.parametrize("count", [1, 63, 65, 200])
def test_decoding_keeps_the_order_and_tells_its_progress(count: int) -> None:
    pictures = [tiny.noise((20, 20), seed=index) for index in range(count)]
    progress: list[int] = []
    items = ((tiny.png(picture), index % 3) for index, picture in enumerate(pictures))
    split = decode_all(items, PREPROCESS, ["a", "b", "c"], on_progress=progress.append)
    for index, picture in enumerate(pictures):
        assert (split.images[index].numpy() == PREPROCESS.decode(tiny.png(picture))).all()
    assert split.labels.tolist() == [index % 3 for index in range(count)]
    assert progress == list(range(1, count + 1))


def test_an_unreadable_picture_is_named_by_its_position() -> None:
    items = [(tiny.png(tiny.noise((20, 20))), 0)] * 30 + [(b"no picture", 0)]
    with pytest.raises(ImageDecodeError, match="item 30"):
        decode_all(items, PREPROCESS, ["a"])


@given(st.integers(2, 2000), st.floats(0.01, 0.99), st.integers(0, 5))
def test_splitting_loses_and_repeats_nothing(num_items: int, fraction: float, seed: int) -> None:
    train, validation = split_off_validation(num_items, fraction, seed=seed)
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(num_items))
    assert len(validation) == max(1, int(num_items * fraction))
    again = split_off_validation(num_items, fraction, seed=seed)
    assert torch.equal(again[0], train)


def test_the_validation_split_is_the_papers() -> None:
    assert [len(part) for part in split_off_validation(1000)] == [900, 100]
    assert [len(part) for part in split_off_validation(73_257)] == [68_257, 5000]
    fifty = torch.utils.data.TensorDataset(torch.arange(50))
    expected = torch.utils.data.random_split(fifty, [45, 5], generator=torch.Generator().manual_seed(0))
    assert [part.tolist() for part in split_off_validation(50)] == [list(part.indices) for part in expected]


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(EmptySplitError):
        split_off_validation(1)
    with pytest.raises(DatasetError):
        split_off_validation(10, fraction=1.0)


def test_a_folder_of_classes_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("pear", "apple", ".hidden"):
        (tmp_path / name).mkdir()
        for index in range(2):
            (tmp_path / name / f"{index}.png").write_bytes(tiny.png(tiny.noise((20, 20), seed=index)))
    (tmp_path / "pear" / "notes.txt").write_text("not a picture")
    split = load_image_folder(tmp_path, PREPROCESS)
    assert split.classnames == ("apple", "pear")
    assert split.labels.tolist() == [0, 0, 1, 1]


def folder_of(root: Path, *names: str) -> Path:
    """A folder with one picture in each of these sub-folders."""
    for index, name in enumerate(names):
        (root / name).mkdir(parents=True)
        (root / name / "a.png").write_bytes(tiny.png(tiny.noise((20, 20), seed=index)))
    return root


def test_a_split_without_one_class_keeps_the_labels_of_the_others(tmp_path: Path) -> None:
    train = load_image_folder(folder_of(tmp_path / "train", "bolt", "nut", "screw"), PREPROCESS)
    test = folder_of(tmp_path / "test", "bolt", "screw")
    named = load_image_folder(test, PREPROCESS, classnames=train.classnames)
    assert (named.classnames, named.labels.tolist()) == (train.classnames, [0, 2])
    with pytest.raises(DatasetError, match=r"not in classnames, \['screw'\]"):
        load_image_folder(test, PREPROCESS, classnames=["bolt", "nut"])
    for wrong in ("bolt", ["bolt", "bolt"]):
        with pytest.raises(DatasetError, match="different names"):
            load_image_folder(test, PREPROCESS, classnames=wrong)


def test_a_task_whose_splits_have_other_classes_is_refused(tmp_path: Path) -> None:
    head = torch.eye(3)
    train = load_image_folder(folder_of(tmp_path / "train", "bolt", "nut", "screw"), PREPROCESS)
    test = load_image_folder(folder_of(tmp_path / "test", "bolt", "screw"), PREPROCESS)
    other = LabelledImages(train.images, train.labels, ("bolt", "screw", "nut"))
    with pytest.raises(DatasetError, match=r"test .* has 2 classes and the head 3 rows"):
        Task("screws", head, train, train, test)
    with pytest.raises(DatasetError, match=r"label 1 .* 'nut' in the split train and 'screw' in test"):
        Task("screws", head, train, other, other)
    with pytest.raises(HeadError, match="length 2"):
        Task("screws", 2 * head, train, train, train)
    with pytest.raises(ArgumentError, match="the split test is"):
        Task("screws", head, train, train, None)  # type: ignore[arg-type]
    assert repr(Task("screws", head, None, train, train)) == "Task('screws', 3 classes, train/validation/test 0/3/3)"


def test_a_mask_takes_the_images_that_it_marks() -> None:
    images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 2, 2, 3).contiguous()
    split = LabelledImages(images, torch.tensor([0, 1, 0, 1, 2, 2]), ("a", "b", "c"))
    for chosen in (split.labels == 2, [False] * 4 + [True] * 2, [4, 5], torch.tensor([4, 5])):
        assert split.subset(chosen).images[:, 0, 0, 0].tolist() == [4, 5]
    for wrong, message in (
        ([True, False], "one bool for each of 6"),
        ([0.0, 1.0], "list of integers"),
        ([6], r"outside 0\.\.5"),
        ([-1], r"outside 0\.\.5"),
        ([[0, 1]], "list of integers"),
    ):
        with pytest.raises(DatasetError, match=message):
            split.subset(wrong)  # type: ignore[arg-type]
    with pytest.raises(EmptySplitError):
        split.subset([])
    assert repr(split) == "LabelledImages(6 images of 2 x 2, 3 classes: a, b, c)"


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "Test"), ("training", "validation", "testing")])
def test_sub_folders_that_look_like_splits_are_named_with_what_to_do(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(DatasetError, match=r"look like splits .*load each of them"):
        load_image_folder(folder_of(tmp_path, *names), PREPROCESS)
    assert load_image_folder(tmp_path, PREPROCESS, classnames=names).classnames == names


def test_a_folder_within_a_class_is_refused_not_passed_over(tmp_path: Path) -> None:
    folder_of(tmp_path, "bolt", "nut")
    folder_of(tmp_path / "nut", "more")
    with pytest.raises(DatasetError, match="more"):
        load_image_folder(tmp_path, PREPROCESS)


def test_a_folder_without_classes_or_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        load_image_folder(tmp_path / "absent", PREPROCESS)
    with pytest.raises(DatasetError, match="subfolders"):
        load_image_folder(tmp_path, PREPROCESS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptySplitError):
        load_image_folder(tmp_path, PREPROCESS)
