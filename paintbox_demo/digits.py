"""scikit-learn's handwritten digits as an upload: 1,797 real scans of 8 x 8 pixels, from UCI's optdigits.

The scans come with the library and are written out as PNG files in class folders. The division into splits is
stratified and seeded, and the archive has the same bytes every time, so that a second demo finds its data set again.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DISPLAY_NAMES = {word: f"digit {word}" for word in WORDS}
_SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}
_GREY_LEVELS = 16  # the scans hold 0 to 16
_SEED = 0


@dataclass(frozen=True)
class Scan:
    """One handwritten digit as a PNG file, with its split and its position in scikit-learn's data set."""

    split: str
    index: int
    digit: int
    png: bytes

    @property
    def member(self) -> str:
        """Its name in the archive."""
        return f"{self.split}/{WORDS[self.digit]}/{self.index:04}.png"

    @property
    def label(self) -> str:
        """The classname that is right."""
        return DISPLAY_NAMES[WORDS[self.digit]]


@cache
def load_scans() -> tuple[Scan, ...]:
    """Return all scans, each in its split, ordered by their names in the archive."""
    pixels, digits = load_digits(return_X_y=True)
    splits = _divide(digits)
    scans = [
        Scan(split, int(index), int(digits[index]), _png(pixels[index]))
        for split, indices in splits.items()
        for index in indices
    ]
    return tuple(sorted(scans, key=lambda scan: scan.member))


def archive_members() -> Iterator[tuple[str, bytes]]:
    """Yield the name and bytes of each file of the upload."""
    for scan in load_scans():
        yield scan.member, scan.png


def held_out(digits: tuple[int, ...]) -> list[Scan]:
    """Return the first scan of the test split of each of these digits."""
    return [next(scan for scan in load_scans() if scan.split == "test" and scan.digit == digit) for digit in digits]


def _divide(digits: NDArray[Any]) -> dict[str, NDArray[Any]]:
    everything = np.arange(len(digits))
    train, rest = train_test_split(everything, train_size=_SHARES["train"], stratify=digits, random_state=_SEED)
    val_share = _SHARES["val"] / (1 - _SHARES["train"])
    val, test = train_test_split(rest, train_size=val_share, stratify=digits[rest], random_state=_SEED)
    return {"train": train, "val": val, "test": test}


def _png(scan: NDArray[Any]) -> bytes:
    grey = np.rint(scan.reshape(8, 8) * 255 / _GREY_LEVELS).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()
