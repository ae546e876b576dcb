"""Reproducible zip archives: the same pictures give the same bytes, and so the same data set."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO

from paintbox_client.errors import InputError

_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the earliest that the format knows
_COPY_BYTES = 1 << 20
_MAX_FILES = 500_000  # limit of the service
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\\\u2028\u2029\udc80-\udcff]|(?<=^[A-Za-z]):")
"""Not allowed in names of an archive: control characters, backslashes, invalid UTF-8, and drives."""
_SUFFIXES = re.compile(r"(?i)(\.tar)?\.(zip|tar|gz|tgz|zst|bz2|xz|parquet)$")


def write_archive(target: Path | IO[bytes], members: Iterable[tuple[str, Path | bytes]]) -> int:
    """Write a zip archive and return the number of its files.

    It holds nothing of the day, the user or the machine. Pictures are stored without compression, because they are
    compressed already.

    Args:
        target: Where to write it.
        members: Name in the archive, and a file, which is copied in chunks, or bytes.
    """
    num_files = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            entry = _entry(name)
            if isinstance(content, bytes):
                archive.writestr(entry, content)
            else:
                entry.file_size = content.stat().st_size  # decides on the format for large files
                with content.open("rb") as source, archive.open(entry, "w") as file:
                    shutil.copyfileobj(source, file, _COPY_BYTES)
            num_files += 1
    return num_files


class Folder:
    """The files below a folder, following links, without hidden files."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._notes: dict[str, tuple[int, str]] = {}

    @property
    def notes(self) -> list[str]:
        """How many files were not sent, or under another name, and why."""
        return [f"{count:,} file(s) {reason}, such as {file!r}." for reason, (count, file) in self._notes.items()]

    def members(self) -> Iterator[tuple[str, Path]]:
        """Yield the name within an archive and the path of each file, sorted.

        Names are text that every archive can hold: other characters become `%` and their hexadecimal code.

        Raises:
            InputError: There are more files than the service accepts.
        """
        found = sorted(islice(self._walk(), _MAX_FILES + 1))
        if len(found) > _MAX_FILES:
            raise InputError(
                f"{self._path} contains more than {_MAX_FILES:,} files.", "Split it into several data sets."
            )
        taken: set[str] = set()
        for parts, path in found:
            name = PurePosixPath(*map(plain_name, parts))
            if name.parts != parts:
                self._note("sent under another name, because an archive cannot store the original name", name.parts)
            while str(name) in taken:
                name = name.with_stem(f"{name.stem}~")
            taken.add(str(name))
            yield str(name), path

    def _walk(self) -> Iterator[tuple[tuple[str, ...], Path]]:
        waiting: list[tuple[Path, tuple[str, ...], frozenset[tuple[int, int]]]] = [(self._path, (), frozenset())]
        while waiting:
            folder, parts, above = waiting.pop()
            try:
                status = folder.stat()
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:
                self._note("not sent: the folder cannot be read", parts)
                continue
            here = (status.st_dev, status.st_ino)
            if here in above:
                self._note("not sent: a link to a parent folder", parts)
                continue
            for entry in entries:
                inside = (*parts, entry.name)
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    waiting.append((Path(entry.path), inside, above | {here}))
                elif self._is_sent(entry, inside):
                    yield inside, Path(entry.path)

    def _is_sent(self, entry: os.DirEntry[str], parts: tuple[str, ...]) -> bool:
        if not entry.is_file():
            self._note("not sent: a broken link" if entry.is_symlink() else "not sent: not a regular file", parts)
            return False
        if not os.access(entry.path, os.R_OK):
            self._note("not sent: it cannot be read", parts)
            return False
        return True

    def _note(self, reason: str, parts: tuple[str, ...]) -> None:
        count, file = self._notes.get(reason, (0, "/".join(map(plain_name, parts))))
        self._notes[reason] = (count + 1, file)


def plain_name(name: str) -> str:
    """Return a file's name as an archive can hold it."""
    return _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in os.fsencode(found[0])), name)


def title_of(path: Path) -> str:
    """Return the default name of the data set of an archive or folder."""
    name = path.resolve().name
    return plain_name(name if path.is_dir() else _SUFFIXES.sub("", name) or name)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIMESTAMP)
    entry.create_system = 3  # on every system alike
    entry.external_attr = 0o100644 << 16
    return entry


@contextmanager
def open_archive(path: Path, on_note: Callable[[str], None]) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the name and the open file of an archive or Parquet file, or of a zip of a folder.

    Args:
        path: Of a file or folder.
        on_note: Called with each kind of files in a folder that are not sent.

    Raises:
        InputError: The folder holds no files.
    """
    if path.is_dir():
        folder = Folder(path)
        with tempfile.TemporaryFile() as stream:
            num_files = write_archive(stream, folder.members())
            for note in folder.notes:
                on_note(note)
            if num_files == 0:
                raise InputError(f"{path} contains no files.", "Choose a folder with images.")
            stream.seek(0)
            yield f"{title_of(path)}.zip", stream
    else:
        with path.open("rb") as file:
            yield plain_name(path.name), file
