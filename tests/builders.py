"""Small real inputs: zip archives of scikit-learn's handwritten digits."""

import io
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from contract.report import PatchReport

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@cache
def digit_pngs(digit: int) -> tuple[bytes, ...]:
    """All scans of one digit as PNG files."""
    from sklearn.datasets import load_digits  # takes seconds of imports, and many processes need no digits

    scans, labels = load_digits(return_X_y=True)
    grey = np.clip(scans[labels == digit].reshape(-1, 8, 8) * 255 / 16, 0, 255).astype(np.uint8)
    return tuple(_png(picture) for picture in grey)


def digit_members(digits: range, **num_by_split: int) -> dict[str, bytes]:
    """Archive members `SPLIT/WORD/NNN.png`, with so many different images of each digit a split."""
    members = {}
    for digit in digits:
        scans = iter(digit_pngs(digit))
        for split, count in num_by_split.items():
            for index in range(count):
                members[f"{split}/{WORDS[digit]}/{index:03}.png"] = next(scans)
    return members


def write_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a zip archive with these members."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def small_report(**fields: Any) -> PatchReport:
    """A report that says little beside these fields."""
    return PatchReport.of_stored({"alpha": 0.5, "reason": "best", "tasks": []} | fields)
