"""Input and result of a layout's reader."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from contract.names import NameRefusedError, check_text, check_texts, shorten
from registry.archives import ArchiveLimits
from registry.errors import ArchiveRefusedError, LargeArchiveError
from registry.intake.annotations import refuse_descriptions
from registry.intake.choices import Choices, refuse_option
from registry.intake.containers import Container
from registry.intake.exports.rows import Document, ExportFormat
from registry.intake.names import Entry, Parts, is_image, is_junk, may_be_image
from registry.intake.notes import Notes, name_some
from registry.intake.rejects import Rejects
from registry.intake.signatures import is_picture

_WHOLE_NUMBER = re.compile(r"(-?\d{1,15})\.0+")
_MISSING = ("NaN", "nan", "<NA>")
_MAX_LABEL_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class Image:
    """An image of an upload: its name there, its split (None: unknown) and its class."""

    name: str
    split: str | None
    label: str


@dataclass(frozen=True)
class Plan:
    """Content of an upload.

    Attributes:
        layout: Name of its layout.
        images: Images to read, in a stable order.
        classes: Folders, names or numbers, in label order.
        rejects: What is left out, with reasons.
        container: Where the images' bytes are.
        display_names: From class to the name that prompts use, where the upload contains one.
        templates: Prompts with `{}` from the upload.
        is_declared: Whether the upload lists its classes, so that one may have no images.
        notes: How it was read.
    """

    layout: str
    images: tuple[Image, ...]
    classes: tuple[str, ...]
    rejects: Rejects = field(compare=False)
    container: Container = field(compare=False)
    display_names: tuple[tuple[str, str], ...] = ()
    templates: tuple[str, ...] = ()
    is_declared: bool = False
    notes: Notes = field(default_factory=Notes, compare=False)

    @property
    def rejected(self) -> tuple[dict[str, Any], ...]:
        """What is left out, as `{"file", "reason"}`."""
        return tuple(self.rejects.as_json())


@dataclass(frozen=True)
class Upload:
    """Input of a layout's reader.

    Attributes:
        scratch: Folder for extracted tables and shards; missing if only names are read.
        most_heads: Maximum number of files whose first bytes may be read; None: all.
        notes: What readers record.
        unused_tables: What each unusable table is, by name.
        recognised: Errors of known but unsupported annotations, raised if folders name no classes either.
        exports: The files that may be exports, by name, and their formats; None if one is not.
    """

    container: Container
    scratch: Path
    limits: ArchiveLimits
    choices: Choices = field(default_factory=Choices)
    most_heads: int | None = None
    notes: Notes = field(default_factory=Notes, compare=False)
    unused_tables: dict[str, str] = field(default_factory=dict, compare=False)
    recognised: list[ArchiveRefusedError] = field(default_factory=list, compare=False)
    exports: dict[str, tuple[ExportFormat, Document] | None] = field(default_factory=dict, compare=False)
    _numbers: Iterator[int] = field(default_factory=count, init=False, repr=False, compare=False)

    @cached_property
    def base(self) -> Parts:
        """The folder to read, chosen by the user; empty means all."""
        return PurePosixPath(unicodedata.normalize("NFC", (self.choices.root or "").strip("/"))).parts

    @cached_property
    def files(self) -> list[tuple[Entry, Parts]]:
        """Visible files below `base`, with the parts of their names, in the order of the names."""
        visible = [(each, parts) for each, parts in self._visible if not each.is_folder]
        inside = [(each, parts) for each, parts in visible if parts[: len(self.base)] == self.base]
        if visible and not inside:
            tops = sorted({parts[0] for _, parts in visible if len(parts) > 1})
            raise refuse_option(
                "root", self.choices.root, "it has no such folder", f"The folders are {name_some(tops)}."
            )
        return sorted(inside, key=lambda item: item[1])

    @cached_property
    def folders(self) -> list[Parts]:
        """Folders that have an entry of their own."""
        return [parts for each, parts in self._visible if each.is_folder]

    @cached_property
    def images(self) -> list[tuple[Entry, Parts]]:
        """The files with names of images, or with first bytes of images."""
        unnamed = [entry.name for entry, parts in self.files if not is_image(parts) and may_be_image(parts)]
        if self.most_heads is not None and len(unnamed) > self.most_heads:
            raise LargeArchiveError
        heads = self.container.read_heads(unnamed)
        pictures = {name for name, head in heads if isinstance(head, bytes) and is_picture(head)}
        return [(entry, parts) for entry, parts in self.files if is_image(parts) or entry.name in pictures]

    @cached_property
    def image_names(self) -> frozenset[str]:
        """Names of `images`."""
        return frozenset(entry.name for entry, _ in self.images)

    @cached_property
    def image_folders(self) -> Counter[Parts]:
        """Number of images directly in each folder."""
        return Counter(parts[:-1] for _, parts in self.images)

    @cached_property
    def root(self) -> Parts:
        """The one folder that wraps everything but files at the top, if there is one."""
        if self.base:
            return self.base
        tops = {parts[0] for _, parts in self.files if len(parts) > 1}
        return tuple(tops) if len(tops) == 1 and all(len(parts) > 1 for _, parts in self.images) else ()

    def take_out(self, name: str, max_bytes: int) -> Path:
        """Return a copy of a table or shard in the scratch folder, under a generated name."""
        target = self.scratch / f"part-{next(self._numbers):06}"
        self.container.copy(name, target, max_bytes)
        return target

    def tell_extensions(self) -> str:
        """Return the numbers of files by extension, for a message."""
        found = Counter(PurePosixPath(parts[-1].lower()).suffix or "no extension" for _, parts in self.files)
        return ", ".join(f"{count:,} {shorten(suffix, 20)}" for suffix, count in found.most_common(5))

    @cached_property
    def _visible(self) -> list[tuple[Entry, Parts]]:
        named = [(each, each.parts) for each in self.container.entries]
        return [(each, parts) for each, parts in named if parts and not is_junk(parts)]


class Layout(Protocol):
    """One way to arrange labelled images."""

    @property
    def name(self) -> str:
        """Its name in responses and documentation."""

    def recognises(self, upload: Upload) -> bool:
        """Return whether the upload may be in this layout, by names alone."""

    def read(self, upload: Upload) -> Plan | None:
        """Return the content of the upload; None if its tables show that it has another layout."""


def make_plan(
    layout: str,
    upload: Upload,
    container: Container,
    images: Iterable[Image],
    rejects: Rejects,
    *,
    declared: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    display_names: Sequence[tuple[str, str]] = (),
    templates: Sequence[str] = (),
) -> Plan:
    """Return a plan in which either all images have a split or none has.

    Args:
        rejects: Rejects so far; images without a split are added if others have one.
        declared: The classes in label order, if the upload lists them, with or without images.
        classes: The images' classes in label order; default: sorted, numbers by value.

    Raises:
        ArchiveRefusedError: It has no labelled image, too many classes, or an invalid class name.
    """
    kept = list(images)
    if any(image.split is not None for image in kept):
        rejects.add_all((image.name for image in kept if image.split is None), "has no split, while others have one")
        kept = [image for image in kept if image.split is not None]
    if not kept:
        reasons = rejects.tell()
        raise ArchiveRefusedError(
            "no_images",
            f"The upload has no labelled image ({layout} layout{': ' if reasons else ''}{reasons}).",
            "Correct the labels, or use another supported layout.",
        )
    if classes is None:
        classes = sort_labels({image.label for image in kept}) if declared is None else declared
    check_classes(classes, upload.limits)
    if declared is None:
        refuse_descriptions([image.label for image in kept])
    check_classes([name for _, name in display_names], upload.limits)
    return Plan(
        layout=layout,
        images=tuple(kept),
        classes=tuple(classes),
        rejects=rejects,
        container=container,
        display_names=tuple(display_names),
        templates=tuple(templates),
        is_declared=declared is not None,
        notes=upload.notes,
    )


def check_classes(names: Sequence[str], limits: ArchiveLimits) -> None:
    """Refuse invalid classes, in any layout.

    Raises:
        ArchiveRefusedError: There are too many, they are too long, or one contains a forbidden character.
    """
    total = sum(map(len, names))
    if len(names) > limits.max_classes or total > limits.max_classname_characters:
        raise ArchiveRefusedError(
            "too_many_classes",
            f"It has {len(names)} classes with {total} characters; the limits are {limits.max_classes} classes and "
            f"{limits.max_classname_characters} characters.",
            "Label each image with the name of its class, not with its own description.",
        )
    try:
        check_texts(names)
    except NameRefusedError as error:
        raise ArchiveRefusedError(
            "bad_classname", f"Invalid class name: {error}.", "Rename the class, and upload the data set again."
        ) from error


def read_label(value: Any) -> tuple[str, str | None]:
    """Return a label as text, and the reason if it is not valid.

    The same label gives the same text in CSV, JSON and Parquet: whole numbers without a point, `true` and `false`, text
    in one Unicode normal form. The missing values of pandas are not valid, nor is -1, the missing label of Hugging Face
    `datasets`.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, bool | int | float | str):
        return "", "has no label" if value is None else f"has a label of type {type(value).__name__}"
    label = unicodedata.normalize("NFC", str(value)[:_MAX_LABEL_CHARACTERS].strip())
    label = label.lower() if label in ("True", "False", "TRUE", "FALSE") else label
    whole = _WHOLE_NUMBER.fullmatch(label)
    label = whole[1] if whole else label
    if not label or label in _MISSING or (isinstance(value, float) and not math.isfinite(value)):
        return "", "has no label"
    if label == "-1":
        return "", "has the label -1, which means unlabelled"
    try:
        check_text(label)
    except NameRefusedError as error:
        return "", f"has a label that {error}"
    return label, None


def sort_labels(labels: set[str]) -> tuple[str, ...]:
    """Return labels in order: by value if all are whole numbers, else as text."""
    if all(label.isascii() and label.isdigit() for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))
