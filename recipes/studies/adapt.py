"""Make class folders of the data sets that studies patch, protect or judge with, from files that were fetched.

    python -m recipes.studies.adapt gtsrb FETCHED DATA

makes `DATA/gtsrb/{train,val,test}/CLASS/`. `recipes.starter.adapt` does the same for the sets that the starter is
trained on.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from recipes.starter.captions import Words
from recipes.starter.photographs import write_words

_Item = tuple[str, str, str, Image.Image | Path]
"""Split, class folder, file name, and the picture."""

FASHION = (
    "t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip

SIGNS = (
    *(f"speed limit {limit} sign" for limit in (20, 30, 50, 60, 70, 80)), "end of speed limit 80 sign",
    "speed limit 100 sign", "speed limit 120 sign", "no overtaking sign", "no overtaking by trucks sign",
    "crossroads ahead warning sign", "priority road sign", "yield sign", "stop sign", "no vehicles sign",
    "no trucks sign", "no entry sign", "danger warning sign", "curve to the left warning sign",
    "curve to the right warning sign", "double curve warning sign", "bumpy road warning sign",
    "slippery road warning sign", "narrow road warning sign", "road works sign", "traffic lights warning sign",
    "pedestrians warning sign", "children warning sign", "bicycles warning sign", "ice and snow warning sign",
    "wild animals warning sign", "end of all limits sign", "turn right sign", "turn left sign", "straight ahead sign",
    "straight or right sign", "straight or left sign", "keep right sign", "keep left sign", "roundabout sign",
    "end of no overtaking sign", "end of no overtaking by trucks sign",
)  # fmt: skip
"""What the 43 classes of GTSRB show, by number."""

_EVERY = 5
"""GTSRB has 30 frames of each sign that the car passed; so many frames are skipped, because they look alike."""


def main() -> int:
    """Write the class folders of one source and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=sorted(_SOURCES))
    parser.add_argument("fetched", type=Path, help="the source's files")
    parser.add_argument("data", type=Path, help="parent of the task's folder")
    arguments = parser.parse_args()
    read, names = _SOURCES[arguments.source]
    into = arguments.data / arguments.source
    for split, folder, name, picture in read(arguments.fetched):
        target = into / split / folder / name
        if not target.parent.exists():
            target.parent.mkdir(parents=True)
            write_words(into / split, {key: (said, Words()) for key, said in names.items()})
        if isinstance(picture, Path):
            target.unlink(missing_ok=True)
            target.symlink_to(picture.resolve())
        else:
            picture.save(target)
    return 0


def read_folders(fetched: Path) -> Iterator[_Item]:
    """Yield the pictures of a set that has class folders in `train` and `test`, such as CIFAR-10 and MNIST as files."""
    for split in ("train", "test"):
        for path in sorted((fetched / split).glob("*/*")):
            yield split, path.parent.name, path.name, path


def read_fashion(fetched: Path) -> Iterator[_Item]:
    """Yield the pictures of Fashion-MNIST's four `.gz` files, as Debian's `dataset-fashion-mnist` has them."""
    for split, prefix in (("train", "train"), ("test", "t10k")):
        pixels = _read_idx(fetched / f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
        labels = _read_idx(fetched / f"{prefix}-labels-idx1-ubyte.gz", 8)
        for at, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
            yield split, str(int(label)), f"{at:05}.png", Image.fromarray(picture)


def _read_idx(path: Path, header: int) -> np.ndarray:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def read_gtsrb(fetched: Path) -> Iterator[_Item]:
    """Yield frames of GTSRB's training set; all frames of a sign that the car passed are in one split.

    Of ten passes of a class one is for validation and two are for testing. The official test set is not used, because
    copies of it often lack the labels.
    """
    for folder in sorted((fetched / "GTSRB" / "Final_Training" / "Images").iterdir()):
        for path in sorted(folder.glob("*.ppm")):
            passed, frame = (int(each) for each in path.stem.split("_"))
            if frame % _EVERY == 0:
                split = {0: "val", 1: "test", 2: "test"}.get(passed % 10, "train")
                with Image.open(path) as picture:
                    yield split, folder.name, f"{path.stem}.png", picture.convert("RGB")


_SOURCES: Mapping[str, tuple[Callable[[Path], Iterator[_Item]], Mapping[str, str]]] = {
    "cifar10": (read_folders, {}),
    "mnist": (read_folders, {}),
    "fashion": (read_fashion, {str(number): name for number, name in enumerate(FASHION)}),
    "gtsrb": (read_gtsrb, {f"{number:05}": name for number, name in enumerate(SIGNS)}),
}

if __name__ == "__main__":
    sys.exit(main())
