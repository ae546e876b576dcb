"""How a user wants an upload to be read, where its names alone are ambiguous."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.archives import quote_name
from registry.errors import ArchiveRefusedError
from registry.intake.names import Parts

READER_VERSION = 3
"""Version of the rules by which uploads are read; part of a data set's identity, so new rules read an upload again."""

IGNORE = "ignore"


@dataclass(frozen=True)
class Choices:
    """How to read an upload; anything left out is detected, and the upload is refused if that fails.

    Attributes:
        layout: Name of the only layout to try.
        root: Path in the archive of the folder to read; everything outside is left out.
        class_level: Which folder of an image's path names its class: 1 is the first one below the root.
        split_of: From the name of a folder or file to `train`, `validation`, `test` or `ignore`. If given, only it
            defines splits; empty means no splits.
        path_column: Column of a table, or its number from 1 on, that names the images.
        label_column: Column of a table, or its number from 1 on, that names the classes.
        manifest: Path of the table in the archive.
    """

    layout: str | None = None
    root: str | None = None
    class_level: int | None = None
    split_of: tuple[tuple[str, str], ...] | None = None
    path_column: str | None = None
    label_column: str | None = None
    manifest: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` reads back, without what was not said."""
        plain = {name: value for name, value in vars(self).items() if value is not None}
        return plain | ({} if self.split_of is None else {"split_of": [list(pair) for pair in self.split_of]})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Choices:
        """Return the choices that `as_json` wrote; keys of other things are passed over."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        if "split_of" in known:
            known["split_of"] = tuple((name, split) for name, split in known["split_of"])
        return cls(**known)

    def split_by_name(self, parts: Parts) -> str | None:
        """Return the split that `split_of` gives a path: by consecutive parts, or by a file's name up to its first dot.

        Args:
            parts: Of the path.

        Returns:
            The split of the longest matching name; None if there is none.
        """
        path = f"/{'/'.join(parts)}/"
        stem = parts[-1].partition(".")[0] if parts else ""
        found = [(len(name), split) for name, split in self.split_of or () if f"/{name}/" in path or name == stem]
        return max(found)[1] if found else None


def refuse_option(option: str, value: object, detail: str, advice: str) -> ArchiveRefusedError:
    """Return the error of an option that does not fit the upload."""
    return ArchiveRefusedError("bad_reading_option", f"`{option}` is {quote_name(str(value))}, but {detail}.", advice)
