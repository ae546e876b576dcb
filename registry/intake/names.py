"""Names within an upload: what is an image, what is a split, and what operating systems leave behind."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_IGNORED_FOLDERS = ("__MACOSX",)
_SHARD_STEM = re.compile(rf"(?i)(?P<before>|.*[-_.])(?P<split>{'|'.join(SPLITS)})(?:[-_.]?\d+(?:[-_.]of[-_.]\d+)?)?")

Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file or a folder in a container: its name as it stands there, and its size in bytes."""

    name: str
    num_bytes: int = 0
    is_folder: bool = False

    @property
    def parts(self) -> Parts:
        """The name's parts, in one spelling of Unicode."""
        return PurePosixPath(unicodedata.normalize("NFC", self.name)).parts


def is_junk(parts: Parts) -> bool:
    """Return whether this is hidden or left behind by an operating system."""
    return any(part.startswith(".") or part in _IGNORED_FOLDERS for part in parts)


def is_image(parts: Parts) -> bool:
    """Return whether a file is named like an image."""
    return parts[-1].lower().endswith(EXTENSIONS)


def are_splits(names: set[str]) -> bool:
    """Return whether every name, as a whole, is that of a split."""
    return all(name.lower() in SPLITS for name in names)


def splits_of_files(files: Sequence[Parts]) -> list[str | None]:
    """Return the split of each shard, by its folder or by its name; all None unless every one tells.

    `train/0.tar` and `data/train-00000-of-00001.parquet` are of the train split. A word beside others in a name, as in
    "train station-0.tar", tells nothing; nor does a prefix that is not the same everywhere.

    Args:
        files: Paths of the shards.

    Returns:
        Splits in the order of `files`.
    """
    by_folder = [_split_of_folder(parts) for parts in files]
    if all(by_folder):
        return by_folder
    matches = [_SHARD_STEM.fullmatch(PurePosixPath(parts[-1]).stem) for parts in files]
    found = [match for match in matches if match is not None]
    if len(found) < len(files) or len({match["before"] for match in found}) > 1:
        return [None] * len(files)
    return [SPLITS[match["split"].lower()] for match in found]


def _split_of_folder(parts: Parts) -> str | None:
    named = [SPLITS[part.lower()] for part in parts[:-1] if part.lower() in SPLITS]
    return named[-1] if named else None
