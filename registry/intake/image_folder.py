"""ImageFolder: one folder per class, with or without split folders around them.

`SPLIT/CLASS/…/image` when every top-level folder with images is named after a split, else `CLASS/…/image`. Splits are
recognised by whole folder names, so a class called "train station" is a class. One folder around all images is looked
through. A README or a table beside them decides nothing. Labels follow the sorted class folders, as in torchvision's
ImageFolder. Names alone tell all of it: nothing is unpacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from registry.errors import ArchiveRefusedError
from registry.intake.formats import ACCEPTED
from registry.intake.names import SPLITS, Entry, Parts, are_splits, is_image
from registry.intake.plan import Image, Plan, Upload, check_classes
from registry.intake.rejects import Rejects
from registry.names import shorten


class ImageFolder:
    """Class folders with images."""

    name = "imagefolder"

    def recognises(self, upload: Upload) -> bool:
        """Return whether there is an image in a class folder."""
        return any(len(parts) > 1 for _, parts in upload.images)

    def read(self, upload: Upload) -> Plan:
        """Return the images by class folder.

        Args:
            upload: The archive; only its names are looked at.

        Returns:
            The plan, with images ordered by their names.

        Raises:
            ArchiveRefusedError: It has no class folders, or a class has no image or a name that cannot be used.
        """
        layout = recognise_folders([parts for _, parts in upload.images])
        images, rejects = _sort_files(upload.files, layout)
        classes = {image.label for image in images}
        if not classes:
            raise ArchiveRefusedError("no_images", "It holds no image in a class folder.", ACCEPTED)
        inside = [(parts, 1) for _, parts in upload.files] + [(parts, 0) for parts in upload.folders]
        declared = {within[0] for parts, own in inside if len(within := layout.within(parts)) > own}
        _refuse_empty(sorted(declared - classes))
        check_classes(sorted(classes), upload.limits)
        images.sort(key=lambda image: image.name)
        return Plan(self.name, tuple(images), tuple(sorted(classes)), rejects, upload.container)


@dataclass(frozen=True)
class Folders:
    """Where the class folders are: below `root`, and there below split folders if `by_split`."""

    root: Parts
    by_split: bool

    def within(self, parts: Parts) -> Parts:
        """Return the path from the class folder on; empty for what lies outside of the class folders."""
        if parts[: len(self.root)] != self.root:
            return ()
        rest = parts[len(self.root) :]
        if not self.by_split:
            return rest
        return rest[1:] if rest and rest[0].lower() in SPLITS else ()

    def split(self, parts: Parts) -> str | None:
        """Return the split of a path that has a class folder."""
        return SPLITS[parts[len(self.root)].lower()] if self.by_split else None


def recognise_folders(images: Sequence[Parts]) -> Folders:
    """Return where the class folders are, by the images' paths; what else there is says nothing about it."""
    deep = [parts for parts in images if len(parts) > 1]
    tops = {parts[0] for parts in deep}
    root: Parts = ()
    if len(tops) == 1 and all(len(parts) >= 3 for parts in deep) and not are_splits(tops):
        root = deep[0][:1]  # one folder wraps whole class folders
    below = [parts[len(root) :] for parts in deep]
    by_split = bool(deep) and all(len(parts) >= 3 for parts in below) and are_splits({parts[0] for parts in below})
    return Folders(root, by_split)


def _sort_files(files: Sequence[tuple[Entry, Parts]], layout: Folders) -> tuple[list[Image], Rejects]:
    images: list[Image] = []
    rejects = Rejects()
    for entry, parts in files:
        within = layout.within(parts)
        if len(within) < 2:
            rejects.add(entry.name, "not in a class folder")
        elif not is_image(parts):
            rejects.add(entry.name, "not named like an image")
        else:
            images.append(Image(entry.name, layout.split(parts), within[0]))
    return images, rejects


def _refuse_empty(folders: list[str]) -> None:
    if folders:
        shown = ", ".join(repr(shorten(folder)) for folder in folders[:5]) + (" and more" if len(folders) > 5 else "")
        raise ArchiveRefusedError(
            "empty_class",
            f"{len(folders)} class folder(s) hold no image: {shown}.",
            "Add images to them or leave the folders out.",
        )
