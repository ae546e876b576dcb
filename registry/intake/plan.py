"""What a layout's reader finds in an upload, and what it is given to find it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from registry.archives import ArchiveLimits
from registry.errors import ArchiveRefusedError
from registry.intake.containers import Container
from registry.intake.names import Entry, Parts, is_image, is_junk
from registry.intake.rejects import Rejects
from registry.names import NameRefusedError, check_text, check_texts


@dataclass(frozen=True, slots=True)
class Image:
    """An image of an upload: its name there, its split (None: not told) and its class."""

    name: str
    split: str | None
    label: str


@dataclass(frozen=True)
class Plan:
    """What an upload holds.

    Attributes:
        layout: Name of the layout that it is in.
        images: Images to read, in a stable order.
        classes: What labels name, in label order: folders, names or numbers.
        rejects: What is left out, and why.
        container: Where the images' bytes are.
        display_names: From class to the name that prompts use, where the upload tells one.
        templates: Prompts with `{}` that the upload brings.
        is_declared: Whether the upload names the classes itself, so that one may be without images.
    """

    layout: str
    images: tuple[Image, ...]
    classes: tuple[str, ...]
    rejects: Rejects = field(compare=False)
    container: Container = field(compare=False)
    display_names: tuple[tuple[str, str], ...] = ()
    templates: tuple[str, ...] = ()
    is_declared: bool = False

    @property
    def rejected(self) -> tuple[dict[str, Any], ...]:
        """What is left out, as `{"file", "reason"}`."""
        return tuple(self.rejects.as_json())


@dataclass(frozen=True)
class Upload:
    """What a layout's reader works on.

    Attributes:
        container: The archive.
        scratch: Folder for tables and shards that are taken out of it; not there for a look at names alone.
        limits: The budgets.
        manifest: Name of the CSV manifest, if the user told one.
    """

    container: Container
    scratch: Path
    limits: ArchiveLimits
    manifest: str | None = None
    _numbers: Iterator[int] = field(default_factory=count, init=False, repr=False, compare=False)

    @cached_property
    def files(self) -> list[tuple[Entry, Parts]]:
        """Visible files, with the parts of their names, in the order of the names."""
        return sorted(((each, parts) for each, parts in self._visible if not each.is_folder), key=lambda item: item[1])

    @cached_property
    def folders(self) -> list[Parts]:
        """Folders that have an entry of their own."""
        return [parts for each, parts in self._visible if each.is_folder]

    @cached_property
    def images(self) -> list[tuple[Entry, Parts]]:
        """Those files that are named like images."""
        return [(entry, parts) for entry, parts in self.files if is_image(parts)]

    @cached_property
    def root(self) -> Parts:
        """The one folder that wraps everything, if there is one."""
        tops = {parts[0] for _, parts in self.files if len(parts) > 1}
        return tuple(tops) if len(tops) == 1 and all(len(parts) > 1 for _, parts in self.files) else ()

    def take_out(self, name: str, max_bytes: int) -> Path:
        """Return a copy of a table or shard in the scratch folder, under a name of ours."""
        target = self.scratch / f"part-{next(self._numbers):06}"
        self.container.copy(name, target, max_bytes)
        return target

    @cached_property
    def _visible(self) -> list[tuple[Entry, Parts]]:
        named = [(each, each.parts) for each in self.container.entries]
        return [(each, parts) for each, parts in named if parts and not is_junk(parts)]


class Layout(Protocol):
    """One way in which people arrange labelled images."""

    @property
    def name(self) -> str:
        """What it is called in answers and documents."""

    def recognises(self, upload: Upload) -> bool:
        """Return whether the upload may be in this layout, by names alone."""

    def read(self, upload: Upload) -> Plan | None:
        """Return what the upload holds; None if what is in its tables shows that it is in another layout."""


def make_plan(
    layout: str,
    container: Container,
    images: Iterable[Image],
    rejects: Rejects,
    limits: ArchiveLimits,
    *,
    declared: Sequence[str] | None = None,
    display_names: Sequence[tuple[str, str]] = (),
    templates: Sequence[str] = (),
) -> Plan:
    """Return a plan whose images either all name a split or none does.

    Args:
        layout: Its name.
        container: Where the images' bytes are.
        images: What was found.
        rejects: What was left out so far; images without a split are added if others have one.
        limits: The budgets.
        declared: The classes in label order, if the upload names them; left out: sorted, numbers by value.
        display_names: Names for prompts.
        templates: Prompts.

    Returns:
        The plan.

    Raises:
        ArchiveRefusedError: It holds no labelled image, too many classes, or one whose name cannot be used.
    """
    kept = list(images)
    if any(image.split is not None for image in kept):
        rejects.add_all((image.name for image in kept if image.split is None), "names no split, while others do")
        kept = [image for image in kept if image.split is not None]
    if not kept:
        reasons = rejects.tell()
        raise ArchiveRefusedError(
            "no_images",
            f"It holds no labelled image ({layout} layout{': ' if reasons else ''}{reasons}).",
            "Correct the labels, or arrange the images in another of the layouts that are read.",
        )
    classes = tuple(declared) if declared is not None else sort_labels({image.label for image in kept})
    check_classes(classes, limits)
    check_classes([name for _, name in display_names], limits)
    return Plan(
        layout=layout,
        images=tuple(kept),
        classes=classes,
        rejects=rejects,
        container=container,
        display_names=tuple(display_names),
        templates=tuple(templates),
        is_declared=declared is not None,
    )


def check_classes(names: Sequence[str], limits: ArchiveLimits) -> None:
    """Refuse what cannot be classes, in whatever layout they are.

    Args:
        names: Of the classes, or what they are called in prompts.
        limits: The budgets.

    Raises:
        ArchiveRefusedError: There are too many, they are too long, or one holds a character that names may not have.
    """
    total = sum(map(len, names))
    if len(names) > limits.max_classes or total > limits.max_classname_characters:
        raise ArchiveRefusedError(
            "too_many_classes",
            f"It has {len(names)} classes, whose names have {total} characters; {limits.max_classes} classes and "
            f"{limits.max_classname_characters} characters are the limits.",
            "Give each image the name of its class, not a description of its own.",
        )
    try:
        check_texts(names)
    except NameRefusedError as error:
        raise ArchiveRefusedError(
            "bad_classname", f"The name of a class cannot be used: {error}.", "Rename the class, and upload it again."
        ) from error


def read_label(value: Any) -> tuple[str, str | None]:
    """Return a label as text, and the reason if it cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return "", "has no label" if value is None else f"has a label of type {type(value).__name__}"
    label = str(value).strip()
    if not label:
        return "", "has no label"
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
