"""Which columns of a table name the images, their classes and their splits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.intake.choices import Choices
from registry.intake.names import SPLITS
from registry.intake.notes import name_some

_PATHS = (
    *("filename", "imagefilename", "filepath", "imagefilepath", "file", "path", "imagepath", "imagename", "image"),
    *("img", "imgpath", "imgname", "imgfilename", "imagefile", "imgfile", "fname", "relpath", "relativepath"),
    *("files", "filenames", "images", "photo", "picture"),
)
_WEAK_PATHS = ("id", "imageid", "imgid", "name", "uid", "uuid")
"""Names that other columns have as well; one counts if its values name files."""

_LABELS = (
    *("label", "labels", "class", "classes", "classname", "category", "categoryname", "title", "target", "labelname"),
    *("classlabel", "labeltext", "classid", "categoryid", "labelid", "classindex", "labelindex", "classidx", "y"),
)
_SPLITS = ("split", "datasplit", "splits", "set", "subset", "partition", "phase", "dataset", "usage")
_BOXES = (
    {"xmin", "ymin"}, {"bbox"}, {"bboxx"}, {"x1", "y1", "x2", "y2"}, {"xcenter", "ycenter"}, {"boundingbox"},
    {"encodedpixels"}, {"segmentation"},
)  # fmt: skip
_PLAIN = re.compile(r"[\s_\-./]+")
_ONE_HOT = ("0", "1", "0.0", "1.0", "true", "false")
WANTED = "a column with image files (such as file_name) and one with classes (such as label)"


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns.

    Attributes:
        path: Names the image.
        label: Names the class; empty: `one_hot` does.
        split: Names the split; None without splits.
        one_hot: Columns named like classes, one of which is 1 in each row.
    """

    path: str
    label: str = ""
    split: str | None = None
    one_hot: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """All that have to be read."""
        return tuple(filter(None, (self.path, self.label, self.split, *self.one_hot)))


class UnusableTableError(Exception):
    """A table that does not label images. The message completes "the table …".

    Args:
        what: The reason.
        is_boxes: Whether it contains object boxes.
    """

    def __init__(self, what: str, *, is_boxes: bool = False) -> None:
        super().__init__(what)
        self.is_boxes = is_boxes


def choose_columns(
    header: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    names_file: Callable[[Any], bool],
    choices: Choices,
    *,
    has_header: bool = True,
) -> Columns:
    """Return the relevant columns.

    Args:
        names_file: Whether a value names a file of the upload.

    Raises:
        UnusableTableError: It names no images or no classes.
    """
    if not header:
        raise UnusableTableError("has no rows with columns")
    if not rows:
        raise UnusableTableError(f"has no rows below its header ({name_some(header, 8)})")
    plain = {name: _PLAIN.sub("", name).casefold() for name in header}
    path = _choose_path(header, plain, rows, names_file, choices)
    if any(each <= set(plain.values()) for each in _BOXES) and choices.label_column is None:
        raise UnusableTableError(
            f"lists boxes or regions ({name_some(header, 8)}), not one class per image", is_boxes=True
        )
    split = _choose_split(plain, rows)
    if choices.label_column is not None:
        return Columns(path, _named(header, choices.label_column, "label_column"), split)
    label = next((name for wanted in _LABELS for name in header if plain[name] == wanted and name != path), None)
    if label is None and not has_header:
        others = [name for name in header if name not in (path, split)]
        label = others[0] if len(others) == 1 else None
    if label is not None:
        return Columns(path, label, split)
    one_hot = tuple(name for name in header if name not in (path, split) and _is_one_hot(row.get(name) for row in rows))
    if len(one_hot) < 2:
        raise UnusableTableError(f"has the columns {name_some(header, 8)}; it needs {WANTED}")
    return Columns(path, "", split, one_hot)


def _choose_path(
    header: Sequence[str],
    plain: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    names_file: Callable[[Any], bool],
    choices: Choices,
) -> str:
    if choices.path_column is not None:
        return _named(header, choices.path_column, "path_column")
    strong = [name for wanted in _PATHS for name in header if plain[name] == wanted]
    weak = [name for wanted in _WEAK_PATHS for name in header if plain[name] == wanted]
    others = [name for name in header if name not in strong and name not in weak]
    for name in (*strong, *weak, *others):
        if any(names_file(row.get(name)) for row in rows):
            return name
    if not strong:
        raise UnusableTableError(f"has the columns {name_some(header, 8)}; it needs {WANTED}")
    return strong[0]


def _choose_split(plain: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    for wanted in _SPLITS:
        for name, text in plain.items():
            if text == wanted and (
                wanted == "split" or any(str(row.get(name)).strip().lower() in SPLITS for row in rows)
            ):
                return name
    values = {name: {str(row.get(name)).strip().lower() for row in rows} for name in plain if plain[name].isdigit()}
    return next((name for name, found in values.items() if found <= SPLITS.keys()), None)


def _named(header: Sequence[str], wanted: str, option: str) -> str:
    found = next((name for name in header if name == wanted), None)
    found = found or next((name for name in header if name.casefold() == wanted.strip().casefold()), None)
    if found is None and wanted.isdigit() and 0 < int(wanted) <= len(header):
        found = header[int(wanted) - 1]
    if found is None:
        raise UnusableTableError(f"has no column {wanted!r}, required by `{option}`; it has {name_some(header, 8)}")
    return found


def _is_one_hot(values: Iterable[Any]) -> bool:
    return all(str(value).strip().lower() in _ONE_HOT for value in values)
