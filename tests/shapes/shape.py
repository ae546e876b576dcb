"""What a rebuilt data set is, and what must come of it."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from registry.errors import ArchiveRefusedError
from registry.intake.choices import Choices
from registry.intake.names import EXTENSIONS
from registry.intake.reading import look
from tests.builders import digit_pngs
from tests.registry.uploads import pack, read

_BRACES = re.compile(r"\{([^{}]*)\}")
Build = Callable[[Path], Path]


@dataclass(frozen=True)
class Shape:
    """A data set as people have it.

    Attributes:
        name: For the table.
        members: Files by name; empty if `build` makes the upload.
        classes: That come out; empty if it is refused.
        splits: Number of images by split; None: the upload names no split.
        code: Of the refusal.
        way: What the refusal's advice must hold.
        warnings: Codes that the answer must hold.
        choices: What the user says.
        kind: Of archive.
        build: Writes the upload to a path.
    """

    name: str
    members: Mapping[str, bytes] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    splits: Mapping[str | None, int] = field(default_factory=dict)
    code: str = ""
    way: str = ""
    warnings: tuple[str, ...] = ()
    choices: Choices = field(default_factory=Choices)
    kind: str = "zip"
    build: Build | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of an upload."""

    classes: tuple[str, ...] = ()
    splits: Mapping[str | None, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    code: str = ""
    detail: str = ""
    advice: str = ""


def tree(*patterns: str) -> dict[str, bytes]:
    """Return files by names in which `{a,b}` and `{0..3}` stand for each of several; images are scans of digits.

    Args:
        patterns: Of names; what follows ` = ` is the file's text.

    Returns:
        Contents by name.
    """
    scans = itertools.cycle(digit_pngs(0) + digit_pngs(1))
    members = {}
    for pattern in patterns:
        names, _, text = pattern.partition(" = ")
        for name in _expand(names):
            is_image = name.lower().endswith(EXTENSIONS) and not text
            members[name] = next(scans) if is_image else text.encode()
    return members


def _expand(pattern: str) -> Iterator[str]:
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    first, dots, last = found[1].partition("..")
    choices = [f"{n:0{len(first)}}" for n in range(int(first), int(last) + 1)] if dots else found[1].split(",")
    for choice in choices:
        yield from _expand(pattern[: found.start()] + choice + pattern[found.end() :])


def try_shape(shape: Shape, folder: Path) -> Outcome:
    """Return what the API's look and the job's reading make of a shape."""
    path = folder / "upload"
    if shape.build is None:
        pack(path, shape.members, shape.kind)
    else:
        path = shape.build(path)
    try:
        look(path, shape.choices)
        plan = read(path, choices=shape.choices)
    except ArchiveRefusedError as error:
        return Outcome(code=error.code, detail=error.detail, advice=error.advice)
    names = dict(plan.display_names)
    used = {image.label for image in plan.images}
    return Outcome(
        classes=tuple(names.get(each, each) for each in plan.classes if each in used),
        splits=Counter(image.split for image in plan.images),
        warnings=tuple(each["code"] for each in plan.notes.warnings),
    )


def matches(shape: Shape, outcome: Outcome) -> bool:
    """Return whether that is what must come of it."""
    if shape.code:
        return outcome.code == shape.code and shape.way in outcome.advice
    return (
        outcome.classes == shape.classes
        and dict(outcome.splits) == dict(shape.splits)
        and set(shape.warnings) <= set(outcome.warnings)
    )
