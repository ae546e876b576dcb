"""What an upload loses: the first files in full, and of all others how many there are for which reason.

An upload of a few kilobytes can hold 500,000 rows that cannot be used. What is said about them is stored and sent with
every answer about the data set, so it is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from contract.names import MAX_NAME, shorten

MAX_FILES = 100
MAX_KINDS = 20
_OTHER = "other reasons"
_PARTICULARS = re.compile(r"'[^']*'?|\"[^\"]*\"?|\d+")


class Rejects:
    """Files that are left out, with reasons."""

    def __init__(self) -> None:
        self._files: list[dict[str, Any]] = []
        self._kinds: dict[str, dict[str, Any]] = {}

    def add(self, file: str, reason: str) -> None:
        """Add a file, by its name in the upload and the reason as it completes the sentence "the file …"."""
        entry: dict[str, Any] = {"file": shorten(file, MAX_NAME), "reason": shorten(reason, MAX_NAME)}
        if len(self._files) < MAX_FILES:
            self._files.append(entry)
            return
        kind = _PARTICULARS.sub("…", entry["reason"])
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            kind = _OTHER
        self._kinds.setdefault(kind, {"file": entry["file"], "reason": kind, "count": 0})["count"] += 1

    def add_all(self, files: Iterable[str], reason: str) -> None:
        """Add files that are left out for the same reason."""
        for file in files:
            self.add(file, reason)

    def as_json(self) -> list[dict[str, Any]]:
        """Return `{"file", "reason"}` of the first files, then one entry for each reason that further files have.

        Such an entry has the key `count`; its file is the first of them.
        """
        return [dict(entry) for entry in (*self._files, *self._kinds.values())]

    def tell(self, most: int = 3) -> str:
        """Return the first files and reasons for an error message; empty if there are none."""
        return "; ".join(f"{shorten(each['file'])}: {shorten(each['reason'])}" for each in self._files[:most])
