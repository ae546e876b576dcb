"""How an upload was read, as the API reports it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from contract.names import shorten

MAX_WARNINGS = 20
_MAX_DETAIL = 500


@dataclass
class Notes:
    """What readers record while they read.

    Attributes:
        root: Folder below which the images lie.
        wrappers: How many folders were removed above the class or split folders.
        class_level: Which folder below the root names the class; None if something else does.
        labels_from: What names the classes, as the end of "10 classes from …".
        split_folders: Splits by the folder or file that names them.
        tables: Tables that were read.
    """

    root: str = ""
    wrappers: int = 0
    class_level: int | None = None
    labels_from: str = ""
    split_folders: dict[str, str] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    _warnings: dict[str, dict[str, Any]] = field(default_factory=dict)

    def warn(self, code: str, detail: str, key: object = "") -> None:
        """Add a warning, once for each code and key; beyond the first 20 they are dropped."""
        if len(self._warnings) < MAX_WARNINGS:
            self._warnings.setdefault(f"{code} {key}", {"code": code, "detail": shorten(detail, _MAX_DETAIL)})

    @property
    def warnings(self) -> list[dict[str, Any]]:
        """All of them, as `{"code", "detail"}`."""
        return list(self._warnings.values())


def name_some(names: Iterable[str], most: int = 3) -> str:
    """Return the first of some names, quoted, for a message; and how many more there are."""
    listed = list(names)
    shown = ", ".join(repr(shorten(name, 60)) for name in listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most:,} more"
