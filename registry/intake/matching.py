"""From an image's name in a table to the file in the upload."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property

from registry.archives import quote_name
from registry.intake.names import EXTENSIONS, SPLITS, Entry, Parts

_ELSEWHERE = re.compile(r"^(?:/|[A-Za-z]:/|[a-z][a-z0-9]*://)")
_MOST_CANDIDATES = 50


class FileIndex:
    """Files by path, and by their last parts where a table gives paths relative to another folder.

    Args:
        files: Paths of all files.
        images: Paths of files that tables may name without an extension.
    """

    def __init__(self, files: Iterable[Parts], images: Sequence[Parts]) -> None:
        self._files = frozenset(files)
        self._by_name: dict[str, list[Parts]] = defaultdict(list)
        self._images = images
        for parts in self._files:
            self._by_name[parts[-1].casefold()].append(parts)

    @cached_property
    def _by_stem(self) -> dict[str, list[Parts]]:
        found: dict[str, list[Parts]] = defaultdict(list)
        for parts in self._images:
            found[parts[-1].rpartition(".")[0].casefold()].append(parts)
        return found

    def names_file(self, value: object) -> bool:
        """Return whether a value names a file, or the beginning of its name, anywhere."""
        if not isinstance(value, str | int) or isinstance(value, bool):
            return False
        name = str(value).replace("\\", "/").rstrip("/").rpartition("/")[2].strip().casefold()
        return bool(name) and (name in self._by_name or name in self._by_stem)

    def find(self, folder: Parts, value: object, split: str | None) -> Parts:
        """Return the file that a row names.

        Args:
            folder: Where the table is; paths are relative to it, or to a folder above it, or match only the file's end.
            split: The row's split, which decides between files of the same name.

        Raises:
            LookupError: No file matches, or several do; the message completes "the row …".
        """
        text = str(value).strip().replace("\\", "/") if isinstance(value, str | int) else ""
        if not Entry(text).parts or isinstance(value, bool):
            raise LookupError("lists no file")
        found = self.matches(folder, text, split, is_elsewhere=_ELSEWHERE.match(text) is not None)
        if not found:
            raise LookupError(f"lists {quote_name(text)}, which is not in the archive")
        if len(found) > 1:
            raise LookupError(f"lists {quote_name(text)}, which matches {len(found)} files of the archive")
        return found[0]

    def matches(self, folder: Parts, path: str, split: str | None, *, is_elsewhere: bool) -> list[Parts]:
        """Return the files that a path may mean: one, if possible.

        Args:
            folder: As for `find`.
            path: With slashes.
            split: As for `find`.
            is_elsewhere: Whether it is a path of another computer, of which only the end need match.
        """
        parts = Entry(path).parts
        if not parts:
            return []
        for end in range(len(folder), -1, -1):
            if (*folder[:end], *parts) in self._files:
                return [(*folder[:end], *parts)]
        found = self._by_end(parts, is_elsewhere=is_elsewhere)
        if len(found) > 1 and split is not None:
            found = [each for each in found if any(SPLITS.get(part.lower()) == split for part in each)] or found
        if len(found) > 1:
            found = [each for each in found if folder and each[: len(folder)] == folder] or found
        return found

    def _by_end(self, parts: Parts, *, is_elsewhere: bool) -> list[Parts]:
        """Return files whose paths end with these parts; of a path of another computer, those that match best."""
        name = parts[-1].casefold()
        named = self._by_name.get(name, [])
        if not named and not name.endswith(EXTENSIONS):
            named = self._by_stem.get(name, [])
        if len(named) > _MOST_CANDIDATES:
            return named
        scores = {each: count_common(each[:-1], parts[:-1]) for each in named}
        if not is_elsewhere:
            return [each for each, score in scores.items() if score == len(parts) - 1]
        best = max(scores.values(), default=0)
        return [each for each, score in scores.items() if score == best]


def count_common(left: Parts, right: Parts) -> int:
    """Return how many last parts two paths share."""
    count = 0
    for one, other in zip(reversed(left), reversed(right), strict=False):
        if one.casefold() != other.casefold():
            break
        count += 1
    return count
