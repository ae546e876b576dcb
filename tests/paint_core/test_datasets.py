from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paint_core.datasets import LabelledImages, decode_all, load_image_folder, split_off_validation
from paint_core.errors import DatasetError, EmptySplitError, ImageDecodeError
from paint_core.preprocess import Preprocess
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


def test_a_folder_without_classes_or_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder"):
        load_image_folder(tmp_path / "absent", PREPROCESS)
    with pytest.raises(DatasetError, match="sub-folders"):
        load_image_folder(tmp_path, PREPROCESS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptySplitError):
        load_image_folder(tmp_path, PREPROCESS)
