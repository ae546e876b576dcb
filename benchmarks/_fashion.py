"""Fashion-MNIST (Xiao et al., arXiv 1708.07747) from its idx files, if a copy is at hand."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

VARIABLE = "PAINTBOX_FASHION_MNIST"
CLASSNAMES = (
    "t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
NUM_IMAGES = {"train": 3000, "validation": 500, "test": 1000}
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_SEED = 0


class FashionMissingError(Exception):
    """There is no copy of Fashion-MNIST; says how to get one."""

    def __init__(self) -> None:
        super().__init__(
            "Fashion-MNIST is not at hand: install Debian's package dataset-fashion-mnist, or set "
            f"{VARIABLE} to a folder that holds its four idx .gz files"
        )


def draw_fashion(split: str) -> list[tuple[bytes, int]]:
    """Return a seeded draw of a split as PNG files with labels: training and validation from the training files.

    Args:
        split: `train`, `validation` or `test`.

    Raises:
        FashionMissingError: No copy.
    """
    prefix = "t10k" if split == "test" else "train"
    images, labels = _read_idx(f"{prefix}-images-idx3-ubyte.gz"), _read_idx(f"{prefix}-labels-idx1-ubyte.gz")
    order = np.random.default_rng(_SEED).permutation(len(labels))
    first = NUM_IMAGES["train"] if split == "validation" else 0
    return [(_png(images[index]), int(labels[index])) for index in order[first : first + NUM_IMAGES[split]]]


def _read_idx(name: str) -> NDArray[np.uint8]:
    """The array of an idx file: two zero bytes, type 8 (uint8), the number of dimensions, each as big-endian int32."""
    path = Path(os.environ.get(VARIABLE) or _DEBIAN) / name
    if not path.is_file():
        raise FashionMissingError
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, dtype=">i4", count=data[3], offset=4)
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
