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

_MAX_LABEL_CHARACTERS = 200


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
        rejected: What is left out, as `{"file", "reason"}`.
        container: Where the images' bytes are.
        display_names: From class to the name that prompts use, where the upload tells one.
        templates: Prompts with `{}` that the upload brings.
        is_declared: Whether the upload names the classes itself, so that one may be without images.
    """

    layout: str
    images: tuple[Image, ...]
    classes: tuple[str, ...]
    rejected: tuple[dict[str, str], ...]
    container: Container = field(compare=False)
    display_names: tuple[tuple[str, str], ...] = ()
    templates: tuple[str, ...] = ()
    is_declared: bool = False


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
    rejected: Iterable[dict[str, str]],
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
        rejected: What was left out so far.
        limits: The budgets.
        declared: The classes in label order, if the upload names them; left out: sorted, numbers by value.
        display_names: Names for prompts.
        templates: Prompts.

    Returns:
        The plan.

    Raises:
        ArchiveRefusedError: It holds no labelled image, or too many classes.
    """
    left_out = list(rejected)
    kept = list(images)
    if any(image.split is not None for image in kept):
        left_out += [reject(image.name, "names no split, while others do") for image in kept if image.split is None]
        kept = [image for image in kept if image.split is not None]
    if not kept:
        reasons = "; ".join(f"{each['file']}: {each['reason']}" for each in left_out[:3])
        raise ArchiveRefusedError(
            "no_images",
            f"It holds no labelled image ({layout} layout{': ' if reasons else ''}{reasons}).",
            "Correct the labels, or arrange the images in another of the layouts that are read.",
        )
    classes = tuple(declared) if declared is not None else sort_labels({image.label for image in kept})
    if len(classes) > limits.max_classes:
        raise ArchiveRefusedError(
            "too_many_classes",
            f"It has {len(classes)} classes; {limits.max_classes} is the limit.",
            "Give each image the name of its class, not a description of its own.",
        )
    return Plan(
        layout=layout,
        images=tuple(kept),
        classes=classes,
        rejected=tuple(left_out),
        container=container,
        display_names=tuple(display_names),
        templates=tuple(templates),
        is_declared=declared is not None,
    )


def reject(file: str, reason: str) -> dict[str, str]:
    """Return an entry of what was left out."""
    return {"file": file, "reason": reason}


def read_label(value: Any) -> tuple[str, str | None]:
    """Return a label as text, and the reason if it cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return "", "has no label" if value is None else f"has a label of type {type(value).__name__}"
    label = str(value).strip()
    if not label:
        return "", "has no label"
    if len(label) > _MAX_LABEL_CHARACTERS:
        return "", f"has a label of more than {_MAX_LABEL_CHARACTERS} characters"
    return (label, None) if label.isprintable() else ("", "has a label with a line break or control character")


def sort_labels(labels: set[str]) -> tuple[str, ...]:
    """Return labels in order: by value if all are whole numbers, else as text."""
    if all(label.isascii() and label.isdigit() for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))
