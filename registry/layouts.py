"""How the folders of an archive are read: ImageFolder, with or without split folders.

`SPLIT/CLASS/…/image` when every top-level folder is named after a split, else `CLASS/…/image`. Splits are recognised
by whole folder names, so a class called "train station" is a class. One folder around everything is looked through.
Labels follow the sorted class folders, as in torchvision's ImageFolder.
"""

from __future__ import annotations

import unicodedata
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from registry.archives import ArchiveLimits, inspect_members
from registry.errors import ArchiveRefusedError

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


@dataclass(frozen=True)
class ArchiveImage:
    """An entry that claims to be an image: its member name, its split (None: not told) and its class folder."""

    name: str
    split: str | None
    folder: str


@dataclass(frozen=True)
class ArchivePlan:
    """What an archive holds.

    Attributes:
        images: Entries to read, in a stable order.
        folders: Class folders, sorted; a label is an index into them.
        rejected: Entries left out, as `{"file", "reason"}`.
    """

    images: tuple[ArchiveImage, ...]
    folders: tuple[str, ...]
    rejected: tuple[dict[str, str], ...]


def inspect_archive(path: Path, limits: ArchiveLimits | None = None) -> ArchivePlan:
    """Return what the archive holds, from its central directory alone.

    Args:
        path: The uploaded file.
        limits: Budgets; the default ones when left out.

    Returns:
        The images to read with their class folders and splits, and what is left out and why.

    Raises:
        ArchiveRefusedError: It is hostile or damaged, has no class folders, or a class has no image.
    """
    members = inspect_members(path, limits or ArchiveLimits())
    paths = [(member, _parts(member)) for member in members if not _ignored(member)]
    root = _common_root([parts for member, parts in paths if not member.is_dir()])
    paths = [(member, parts[root:]) for member, parts in paths if len(parts) > root]
    files = [(member.filename, parts) for member, parts in paths if not member.is_dir()]
    by_split = _has_splits([parts for _, parts in files])
    images, rejected = _sort_files(files, by_split)
    declared = {parts[by_split] for member, parts in paths if member.is_dir() and len(parts) > by_split}
    folders = {image.folder for image in images}
    if not folders:
        raise ArchiveRefusedError(
            "no_images", "It holds no image in a class folder.", "Put the images in one folder per class."
        )
    _refuse_empty(sorted((declared | {parts[by_split] for _, parts in files if len(parts) > by_split + 1}) - folders))
    images.sort(key=lambda image: image.name)
    return ArchivePlan(tuple(images), tuple(sorted(folders)), tuple(rejected))


def _parts(member: zipfile.ZipInfo) -> tuple[str, ...]:
    return PurePosixPath(unicodedata.normalize("NFC", member.filename)).parts


def _ignored(member: zipfile.ZipInfo) -> bool:
    return any(part.startswith(".") or part in _IGNORED_FOLDERS for part in _parts(member))


def _common_root(files: list[tuple[str, ...]]) -> int:
    """Return 1 if one folder, not named after a split, wraps whole class folders; else 0."""
    tops = {parts[0] for parts in files}
    wrapped = len(tops) == 1 and min(len(parts) for parts in files) >= 3 and not tops & SPLITS.keys()
    return int(wrapped)


def _has_splits(files: list[tuple[str, ...]]) -> bool:
    """Return whether the top folders are splits: all named so, with class folders inside."""
    deep = [parts for parts in files if len(parts) > 1]
    return bool(deep) and all(parts[0].lower() in SPLITS and len(parts) >= 3 for parts in deep)


def _sort_files(
    files: list[tuple[str, tuple[str, ...]]], by_split: bool
) -> tuple[list[ArchiveImage], list[dict[str, str]]]:
    images: list[ArchiveImage] = []
    rejected: list[dict[str, str]] = []
    for name, parts in files:
        if len(parts) < 2 + by_split:
            rejected.append({"file": name, "reason": "not in a class folder"})
        elif not parts[-1].lower().endswith(EXTENSIONS):
            rejected.append({"file": name, "reason": "not named like an image"})
        else:
            split = SPLITS[parts[0].lower()] if by_split else None
            images.append(ArchiveImage(name, split, parts[by_split]))
    return images, rejected


def _refuse_empty(folders: list[str]) -> None:
    if folders:
        shown = ", ".join(repr(folder) for folder in folders[:5]) + (" and more" if len(folders) > 5 else "")
        raise ArchiveRefusedError(
            "empty_class",
            f"{len(folders)} class folder(s) hold no image: {shown}.",
            "Add images to them or leave the folders out.",
        )
