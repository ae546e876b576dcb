"""Labelled images from pictures in memory, as PIL, torchvision and `datasets` have them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from paint_core.data import LabelledImages
from paint_core.errors import DatasetError, EmptySplitError, ImageDecodeError
from paint_core.images.preprocess import Preprocess
from tests.paint_core import tiny

PREPROCESS = Preprocess({"size": 16})
NAMES = ["red", "green", "blue"]


def pictures() -> list[Image.Image]:
    return [Image.new("RGB", (20, 24), name) for name in NAMES]


def test_pictures_of_every_form_decode_like_their_files(tmp_path: Path) -> None:
    picture = tiny.noise((20, 24))
    (tmp_path / "a.png").write_bytes(tiny.png(picture))
    forms = [picture, tiny.png(picture), tmp_path / "a.png", str(tmp_path / "a.png"), np.asarray(picture)]
    split = LabelledImages.from_pairs([(form, 1) for form in forms], PREPROCESS, NAMES)
    expected = torch.from_numpy(PREPROCESS.decode(tiny.png(picture)))
    assert all(torch.equal(image, expected) for image in split.images)
    assert (split.labels.tolist(), split.classnames) == ([1] * 5, tuple(NAMES))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "HSV", "La", "RGBa"])
def test_every_mode_of_pil_can_be_given(mode: str) -> None:
    picture = tiny.noise((20, 24)).convert("L").convert("I").convert("I;16") if mode == "I;16" else tiny.noise((20, 24))
    picture = picture if mode in ("I;16", "RGB") else picture.convert({"La": "LA", "RGBa": "RGBA"}.get(mode, mode))
    picture = picture.convert(mode) if mode in ("La", "RGBa") else picture
    assert LabelledImages.from_pairs([(picture, 0)], PREPROCESS, NAMES).images.shape == (1, 16, 16, 3)


def test_the_orientation_of_a_picture_is_treated_as_in_its_file() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    tiny.noise((20, 40)).save(buffer, "PNG", exif=exif)
    opened = Image.open(io.BytesIO(buffer.getvalue()))
    split = LabelledImages.from_pairs([(opened, 0), (buffer.getvalue(), 0)], PREPROCESS, NAMES)
    assert torch.equal(split.images[0], split.images[1])


def test_labels_that_are_texts_become_the_classnames_in_sorted_order() -> None:
    pairs = list(zip([*pictures(), *pictures()], [*NAMES, *NAMES], strict=True))
    split = LabelledImages.from_pairs(pairs, PREPROCESS)
    assert split.classnames == ("blue", "green", "red")
    assert split.labels.tolist() == [2, 1, 0, 2, 1, 0]
    assert LabelledImages.from_pairs(iter(pairs), PREPROCESS, NAMES).labels.tolist() == [0, 1, 2, 0, 1, 2]


class OfTorchvision:
    """Indexed, with a length and its classes, as torchvision's data sets are."""

    classes = NAMES

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return pictures()[index % 3], index % 3


def test_a_data_set_of_torchvision_brings_its_classes_also_through_a_subset() -> None:
    split = LabelledImages.from_pairs(OfTorchvision(), PREPROCESS)  # type: ignore[arg-type]
    assert (split.classnames, split.labels.tolist()) == (tuple(NAMES), [0, 1, 2])
    subset: Any = torch.utils.data.Subset(OfTorchvision(), [2, 0])  # type: ignore[arg-type]
    assert LabelledImages.from_pairs(subset, PREPROCESS).labels.tolist() == [2, 0]


def test_rows_of_hugging_face_bring_their_classes() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES), "id": datasets.Value("int64")}
    )
    rows = datasets.Dataset.from_dict({"image": pictures(), "label": [0, 2, 1], "id": [7, 8, 9]}, features=features)
    for each in (rows, rows.cast_column("image", datasets.Image(decode=False))):
        split = LabelledImages.from_pairs(each, PREPROCESS)
        assert (split.classnames, split.labels.tolist()) == (tuple(NAMES), [0, 2, 1])
        assert torch.equal(split.images, LabelledImages.from_pairs(OfTorchvision(), PREPROCESS).images)  # type: ignore[arg-type]


def test_columns_that_are_not_clear_are_named_by_the_caller() -> None:
    rows = [{"scan": pictures()[0], "fine": 0, "coarse": 1}]
    with pytest.raises(DatasetError, match=r"item 0: columns .*columns=\('image', 'label'\)"):
        LabelledImages.from_pairs(rows, PREPROCESS, NAMES)
    assert LabelledImages.from_pairs(rows, PREPROCESS, NAMES, columns=("scan", "coarse")).labels.tolist() == [1]
    with pytest.raises(DatasetError, match="the column 'kind'"):
        LabelledImages.from_pairs(rows, PREPROCESS, NAMES, columns=("scan", "kind"))


@pytest.mark.parametrize(
    ("pairs", "names", "message"),
    [
        ([(torch.zeros(3, 8, 8), 0)], NAMES, "item 0: the image is a Tensor.*transform"),
        ([(np.zeros((3, 8, 8)), 0)], NAMES, "item 0: the array is float64"),
        ([(np.zeros((3, 8, 8), np.uint8), 0)], NAMES, "the array is uint8"),
        ([(Image.new("L", (8, 8)), 3)], NAMES, r"the label 3 is outside 0\.\.2"),
        ([(Image.new("L", (8, 8)), -1)], NAMES, "drop the item"),
        ([(Image.new("L", (8, 8)), "pink")], NAMES, "'pink' is not among"),
        ([(Image.new("L", (8, 8)), 0.5)], NAMES, "the label is a float"),
        ([(Image.new("L", (8, 8)), 0)], None, "give `classnames`"),
        ([Image.new("L", (8, 8))], NAMES, "is not a pair"),
        ([("absent.png", 0)], NAMES, "absent.png cannot be read"),
        (5, NAMES, "a int contains no pairs"),
        ("pictures", NAMES, "contains no pairs"),
        ([(Image.new("L", (8, 8)), 0)], "red", "different names"),
    ],
)
def test_what_is_no_labelled_picture_is_refused_with_what_to_give(pairs: Any, names: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        LabelledImages.from_pairs(pairs, PREPROCESS, names)


def test_no_pairs_and_broken_pictures_are_refused() -> None:
    with pytest.raises(EmptySplitError):
        LabelledImages.from_pairs([], PREPROCESS, NAMES)
    with pytest.raises(ImageDecodeError, match="item 1"):
        LabelledImages.from_pairs([(pictures()[0], 0), (b"no picture", 1)], PREPROCESS, NAMES)
