"""How the folders of an archive are read: ImageFolder, with or without split folders.

`SPLIT/CLASS/…/image` when every top-level folder with images is named after a split, else `CLASS/…/image`. Splits are
recognised by whole folder names, so a class called "train station" is a class. One folder around all images is looked
through. A README or a table beside them decides nothing. Labels follow the sorted class folders, as in torchvision's
ImageFolder.
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
    files = [(member.filename, parts) for member, parts in paths if not member.is_dir()]
    layout = _recognise([parts for _, parts in files if _is_image(parts)])
    images, rejected = _sort_files(files, layout)
    folders = {image.folder for image in images}
    if not folders:
        raise ArchiveRefusedError(
            "no_images", "It holds no image in a class folder.", "Put the images in one folder per class."
        )
    declared = {within[0] for member, parts in paths if len(within := layout.within(parts)) > (not member.is_dir())}
    _refuse_empty(sorted(declared - folders))
    images.sort(key=lambda image: image.name)
    return ArchivePlan(tuple(images), tuple(sorted(folders)), tuple(rejected))


@dataclass(frozen=True)
class _Layout:
    """Where the class folders are: below `root`, and there below split folders if `by_split`."""

    root: tuple[str, ...]
    by_split: bool

    def within(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        """Return the path from the class folder on; empty for what lies outside of the class folders."""
        if parts[: len(self.root)] != self.root:
            return ()
        rest = parts[len(self.root) :]
        if not self.by_split:
            return rest
        return rest[1:] if rest and rest[0].lower() in SPLITS else ()

    def split(self, parts: tuple[str, ...]) -> str | None:
        """Return the split of a path that has a class folder."""
        return SPLITS[parts[len(self.root)].lower()] if self.by_split else None


def _recognise(images: list[tuple[str, ...]]) -> _Layout:
    """Return the layout that the images are in; what else the archive holds says nothing about it."""
    deep = [parts for parts in images if len(parts) > 1]
    tops = {parts[0] for parts in deep}
    root: tuple[str, ...] = ()
    if len(tops) == 1 and all(len(parts) >= 3 for parts in deep) and not _are_splits(tops):
        root = deep[0][:1]  # one folder wraps whole class folders
    below = [parts[len(root) :] for parts in deep]
    by_split = bool(deep) and all(len(parts) >= 3 for parts in below) and _are_splits({parts[0] for parts in below})
    return _Layout(root, by_split)


def _are_splits(names: set[str]) -> bool:
    return all(name.lower() in SPLITS for name in names)


def _parts(member: zipfile.ZipInfo) -> tuple[str, ...]:
    return PurePosixPath(unicodedata.normalize("NFC", member.filename)).parts


def _ignored(member: zipfile.ZipInfo) -> bool:
    return any(part.startswith(".") or part in _IGNORED_FOLDERS for part in _parts(member))


def _is_image(parts: tuple[str, ...]) -> bool:
    return parts[-1].lower().endswith(EXTENSIONS)


def _sort_files(
    files: list[tuple[str, tuple[str, ...]]], layout: _Layout
) -> tuple[list[ArchiveImage], list[dict[str, str]]]:
    images: list[ArchiveImage] = []
    rejected: list[dict[str, str]] = []
    for name, parts in files:
        within = layout.within(parts)
        if len(within) < 2:
            rejected.append({"file": name, "reason": "not in a class folder"})
        elif not _is_image(parts):
            rejected.append({"file": name, "reason": "not named like an image"})
        else:
            images.append(ArchiveImage(name, layout.split(parts), within[0]))
    return images, rejected


def _refuse_empty(folders: list[str]) -> None:
    if folders:
        shown = ", ".join(repr(folder) for folder in folders[:5]) + (" and more" if len(folders) > 5 else "")
        raise ArchiveRefusedError(
            "empty_class",
            f"{len(folders)} class folder(s) hold no image: {shown}.",
            "Add images to them or leave the folders out.",
        )
