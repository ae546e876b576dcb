"""ImageFolder: one folder per class, with or without split folders around them.

`levels` tells from the whole tree which folders are classes and which are splits. Labels follow the sorted class
folders, as in torchvision's ImageFolder. Names alone tell all of it: nothing is unpacked.
"""

from __future__ import annotations

from registry.errors import ArchiveRefusedError
from registry.intake.choices import IGNORE
from registry.intake.formats import ACCEPTED
from registry.intake.known import explain
from registry.intake.levels import Arrangement, UnclassedError, arrange
from registry.intake.names import NOT_CLASSES, SPLITS, Parts, find_split_word
from registry.intake.notes import name_some
from registry.intake.plan import Image, Plan, Upload, check_classes, make_plan
from registry.intake.rejects import Rejects


class ImageFolder:
    """Class folders with images."""

    name = "imagefolder"

    def recognises(self, upload: Upload) -> bool:
        """Return whether there is an image in a folder."""
        return any(len(parts) > 1 for _, parts in upload.images)

    def read(self, upload: Upload) -> Plan:
        """Return the images by class folder, ordered by name. Reads only the archive's names.

        Raises:
            ArchiveRefusedError: It has no class folders, is ambiguous, or a class has no image or an invalid name.
        """
        try:
            found = arrange(upload.image_folders, upload.choices, upload.base, upload.notes)
        except (UnclassedError, ArchiveRefusedError) as error:
            known = explain(upload, is_certain=isinstance(error, ArchiveRefusedError))
            if known is None and isinstance(error, ArchiveRefusedError):
                raise
            raise known or _no_classes(upload) from error
        images, rejects = _sort_files(upload, found)
        classes = {image.label for image in images}
        if len(classes) == 1:
            _refuse_one(upload, classes)
        _refuse_empty(_empty_classes(upload, found, classes))
        check_classes(sorted(classes), upload.limits)
        images.sort(key=lambda image: image.name)
        _note(upload, found)
        return make_plan(self.name, upload, upload.container, images, rejects, classes=sorted(classes))


def _note(upload: Upload, found: Arrangement) -> None:
    notes = upload.notes
    notes.root, notes.wrappers = "/".join(found.root), len(found.root) - len(upload.base)
    notes.class_level, notes.labels_from = found.class_level, f"folder level {found.class_level}"
    notes.split_folders = {name: split for name, split in found.splits.items() if split != IGNORE}
    for name, what in list(upload.unused_tables.items())[:3]:
        notes.warn("unread_table", f"{what}; the folders are the classes.", name)
    lists = [entry.name for entry, parts in upload.files if parts[-1].lower().endswith(".txt") and _names_split(parts)]
    if lists and not notes.split_folders:
        detail = (
            f"Lists such as {name_some(lists)} are ignored: the images are split again. To keep the splits that they "
        )
        notes.warn("unread_lists", detail + "name, arrange the images in folders train/CLASS and test/CLASS.")


def _names_split(parts: Parts) -> bool:
    """Return whether a text file seems to list the images of a split."""
    stem = parts[-1].rpartition(".")[0]
    return find_split_word(stem) is not None or "split" in stem.lower()


def _sort_files(upload: Upload, found: Arrangement) -> tuple[list[Image], Rejects]:
    images: list[Image] = []
    rejects = Rejects()
    names = upload.image_names
    for entry, parts in upload.files:
        if entry.name not in names:
            rejects.add(entry.name, upload.unused_tables.get(entry.name, "unsupported file type"))
            continue
        try:
            split, label = found.place(parts)
        except LookupError as error:
            rejects.add(entry.name, str(error.args[0]))
        else:
            images.append(Image(entry.name, split, label))
    return images, rejects


def _no_classes(upload: Upload) -> ArchiveRefusedError:
    """Return the error of an upload that has no class folders."""
    tables = "; ".join([*upload.unused_tables.values()][:3])
    if not upload.images:
        detail = f"The upload has no image in a supported format, only {upload.tell_extensions() or 'nothing'}."
        return ArchiveRefusedError("no_images", detail, ACCEPTED)
    if tables:
        return _bad_table(f"The images are not in class folders, and {tables}.")
    folders = sorted({"/".join(folder) for folder in upload.image_folders if folder})
    where = f"all {len(upload.images):,} images are in {name_some(folders)}" if folders else "all are at the top"
    return ArchiveRefusedError("no_images", f"The upload has no image in a class folder: {where}.", ACCEPTED)


def _bad_table(detail: str) -> ArchiveRefusedError:
    return ArchiveRefusedError(
        "bad_table",
        detail,
        "Rename the columns to file_name and label, specify them with `path_column` and `label_column`, or sort the "
        "images into one folder per class.",
    )


def _refuse_one(upload: Upload, classes: set[str]) -> None:
    """Refuse a single class if something else seems to name the classes."""
    known = explain(upload, is_certain=True)
    if known is not None:
        raise known
    if upload.unused_tables and upload.choices.layout is None and upload.choices.class_level is None:
        tables = "; ".join([*upload.unused_tables.values()][:3])
        raise _bad_table(f"The folders contain only one class, {name_some(classes)}, and {tables}.")


def _empty_classes(upload: Upload, found: Arrangement, classes: set[str]) -> list[str]:
    """Return the folders beside the class folders that contain no image, though they may be meant as classes."""
    if found.is_path:
        return []
    start, names = len(found.root), upload.image_names
    others = [parts[:-1] for entry, parts in upload.files if entry.name not in names] + upload.folders
    with_images = {path[start:][found.class_level - 1 : found.class_level] for path in upload.image_folders}
    declared = set()
    for path in {folder[start:] for folder in others if folder[:start] == found.root}:
        if len(path) >= found.class_level and _may_hold_classes(path, found):
            declared.add(path[found.class_level - 1])
    return sorted(declared - classes - {name for each in with_images for name in each})


def _may_hold_classes(path: Parts, found: Arrangement) -> bool:
    """Return whether a folder is in a split, if there are splits, and neither it nor one above it is of other files."""
    split = None if found.split_level is None else path[found.split_level - 1]
    is_inside = split is None or split in found.splits or split.lower() in SPLITS
    return is_inside and not any(part.lower() in NOT_CLASSES for part in path[: found.class_level])


def _refuse_empty(folders: list[str]) -> None:
    if folders:
        raise ArchiveRefusedError(
            "empty_class",
            f"{len(folders)} class folder(s) contain no image: {name_some(folders, 5)}.",
            "Add images, or remove the folders.",
        )
