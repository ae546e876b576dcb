"""Folders and archives of tasks that are made of fetched data sets."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paint_core.models import load_base
from recipes.starter.bundle_photographs import FASHION_IMAGES, THUMBNAIL_SIDE, fashion_files, task_files, thumbnail
from recipes.starter.captions import Words
from recipes.starter.photographs import photographs_in, read_words, write_words
from recipes.studies.adapt import FASHION, SIGNS, main, read_fashion


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, source = tmp_path_factory.mktemp("fashion"), np.random.default_rng(0)
    for prefix, count in (("train", 1400), ("t10k", 700)):
        pixels, labels = source.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10
        for name, header, values in (("images-idx3", 16, pixels), ("labels-idx1", 8, labels)):
            with gzip.open(folder / f"{prefix}-{name}-ubyte.gz", "wb", 1) as file:
                file.write(bytes(header) + values.tobytes())
    return folder


def photograph(path: Path, colour: str, size: tuple[int, int] = (90, 120), **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def test_frames_of_one_sign_are_in_one_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = tmp_path / "fetched" / "GTSRB" / "Final_Training" / "Images"
    for passed in range(20):
        for frame in range(10):
            photograph(images / "00014" / f"{passed:05}_{frame:05}.ppm", "red", (20, 20))
    monkeypatch.setattr("sys.argv", ["adapt", "gtsrb", str(tmp_path / "fetched"), str(tmp_path / "data")])
    assert main() == 0
    found = {split: photographs_in(tmp_path / "data" / "gtsrb" / split) for split in ("train", "val", "test")}
    passes = {split: {path.stem.split("_")[0] for path in paths} for split, paths in found.items()}
    assert {split: len(each) for split, each in passes.items()} == {"train": 14, "val": 2, "test": 4}
    assert len(set.union(*passes.values())) == 20
    assert all(len(paths) == 2 * len(passes[split]) for split, paths in found.items())  # frames 0 and 5
    assert read_words(tmp_path / "data" / "gtsrb" / "train")["00014"][0] == "stop sign"
    assert len(set(SIGNS)) == 43


def test_class_folders_are_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "test"):
        photograph(tmp_path / "fetched" / split / "cat" / "1.png", "black")
    monkeypatch.setattr("sys.argv", ["adapt", "cifar10", str(tmp_path / "fetched"), str(tmp_path)])
    assert main() == 0
    (path,) = photographs_in(tmp_path / "cifar10" / "test")
    assert path.resolve() == tmp_path / "fetched" / "test" / "cat" / "1.png"


def test_pictures_of_fashion_mnist_are_read_as_they_are(fashion: Path) -> None:
    split, label, name, picture = next(read_fashion(fashion))
    assert (split, label, name) == ("train", "0", "00000.png")
    assert isinstance(picture, Image.Image)
    assert np.array_equal(np.asarray(picture), np.random.default_rng(0).integers(0, 256, (1400, 28, 28), np.uint8)[0])


def test_the_bundled_pictures_of_a_split_are_as_many_of_each_class_and_of_no_other_split(fashion: Path) -> None:
    files = fashion_files(fashion)
    for split, count in FASHION_IMAGES.items():
        assert {
            name: len([path for path in files if path.startswith(f"{split}/{name}/")]) for name in FASHION
        } == dict.fromkeys(FASHION, count)
    assert len(set(files.values())) == len(files)


def test_a_thumbnail_is_upright_small_and_without_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph(tmp_path / "a.jpg", "blue", (400, 200), exif=exif)
    with Image.open(io.BytesIO(thumbnail(tmp_path / "a.jpg"))) as small:
        assert small.size == (THUMBNAIL_SIDE, 2 * THUMBNAIL_SIDE)
        assert not small.getexif()


def test_held_out_photographs_are_halved_in_their_order(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        colour = "white" if split == "test" else "black"
        for key in ("Bell-Pepper", "rare"):
            for at in range(12 if key == "Bell-Pepper" else 3):
                photograph(tmp_path / split / key / f"{at:02}.png", colour)
        write_words(tmp_path / split, {"Bell-Pepper": ("bell pepper", Words()), "rare": ("rare", Words())})
    files = task_files(tmp_path, load_base("starter"), 5, 20)
    assert {path.rpartition("/")[0] for path in files} == {"val/bell pepper", "test/bell pepper"}
    assert len(files) == 24
    for path, content in files.items():
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.getpixel((5, 5)) == ((255,) * 3 if path.startswith("test/") else (0,) * 3)
