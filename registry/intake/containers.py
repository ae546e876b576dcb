"""What an upload's files are read from: a zip archive, or stretches of files on disk.

A tar archive, the shards within an archive and the rows of Parquet files all become stretches, so every layout reads
any file at any time, in whatever order, and memory holds one file at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from registry.archives import (
    IS_REPLACED,
    UNREADABLE,
    ArchiveLimits,
    OpenArchive,
    inspect_members,
    quote_name,
    read_members,
    refuse_name,
)
from registry.errors import ArchiveRefusedError
from registry.intake.names import Entry
from registry.intake.tar import RejectedMember, read_headers

_COPY_BYTES = 1 << 20
HEAD_BYTES = 32


class Container(Protocol):
    """Files by name."""

    @property
    def entries(self) -> Sequence[Entry]:
        """Regular files and folders, each once, with names that are relative and plain."""

    @property
    def rejected(self) -> Sequence[tuple[str, str]]:
        """Members that are left out, such as links, with reasons."""

    @property
    def num_unsure(self) -> int:
        """How many names have an unknown encoding, and may be misread."""

    def read_heads(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | str]]:
        """As `read`, but only the first bytes of each file."""

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | str]]:
        """Yield `(name, bytes)` for each named file, or `(name, reason)` for one that cannot be read."""

    def copy(self, name: str, target: Path, max_bytes: int) -> None:
        """Write one file, which may be large, to `target`; raise `ArchiveRefusedError` if it is over `max_bytes`."""


class ZipContainer:
    """A zip archive.

    Args:
        at_once: How many entries to look at; left out: as many as the budgets allow.

    Raises:
        ArchiveRefusedError: It is damaged or hostile.
        LargeArchiveError: It has more than `at_once` entries.
    """

    def __init__(self, path: Path, limits: ArchiveLimits, at_once: int | None = None) -> None:
        self._path = path
        self._limits = limits
        found = inspect_members(path, limits, at_once)
        self.entries = [Entry(each.filename, each.file_size, each.is_dir()) for each in found.members]
        self.rejected, self.num_unsure = found.rejected, found.num_unsure

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | str]]:
        """Yield `(name, bytes)` for each named file, or `(name, reason)` for one that cannot be read."""
        return read_members(self._archive, names, self._limits)

    def read_heads(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | str]]:
        """As `read`, but only the first bytes of each file."""
        return read_members(self._archive, names, self._limits, HEAD_BYTES)

    @cached_property
    def _archive(self) -> OpenArchive:
        return OpenArchive(self._path)

    def copy(self, name: str, target: Path, max_bytes: int) -> None:
        """Write one file to `target`; raise `ArchiveRefusedError` if it is damaged or over `max_bytes`."""
        with target.open("wb") as file:
            try:
                with self._archive.open(name) as source:
                    copy_within(source, file, name, max_bytes)
            except UNREADABLE as error:
                raise refuse_name("damaged_archive", name, "is damaged") from error


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where a file's bytes are: so many from an offset on, in a file on disk."""

    path: Path
    offset: int
    num_bytes: int


class StretchContainer:
    """Files that are byte ranges of other files.

    Args:
        folders: Names of folders, for layouts in which an empty one has a meaning.
        num_unsure: Number of names that may be misread.
    """

    def __init__(
        self,
        stretches: Mapping[str, Stretch],
        limits: ArchiveLimits,
        folders: Sequence[str] = (),
        rejected: Sequence[tuple[str, str]] = (),
        num_unsure: int = 0,
    ) -> None:
        self.stretches = stretches
        self._limits = limits
        self.rejected, self.num_unsure = rejected, num_unsure
        self.entries = [Entry(name, each.num_bytes) for name, each in stretches.items()]
        self.entries += [Entry(name, 0, True) for name in folders]

    def read_heads(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | str]]:
        """As `read`, but only the first bytes of each file."""
        found = {name: self.stretches[name] for name in names}
        heads = {name: replace(each, num_bytes=min(each.num_bytes, HEAD_BYTES)) for name, each in found.items()}
        return StretchContainer(heads, self._limits).read(heads)

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | str]]:
        """Yield `(name, bytes)` for each named file, or `(name, reason)` for one that is too large."""
        opened: tuple[Path, BinaryIO] | None = None
        try:
            for name in names:
                stretch = self.stretches[name]
                if stretch.num_bytes > self._limits.max_member_bytes:
                    yield name, f"larger than {self._limits.max_member_bytes} bytes"
                    continue
                if opened is None or opened[0] != stretch.path:
                    if opened is not None:
                        opened[1].close()
                    opened = stretch.path, stretch.path.open("rb")
                opened[1].seek(stretch.offset)
                yield name, opened[1].read(stretch.num_bytes)
        finally:
            if opened is not None:
                opened[1].close()

    def copy(self, name: str, target: Path, max_bytes: int) -> None:
        """Write one file to `target`; raise `ArchiveRefusedError` if it is over `max_bytes`."""
        stretch = self.stretches[name]
        if stretch.num_bytes > max_bytes:
            raise too_large(name, max_bytes)
        with stretch.path.open("rb") as source, target.open("wb") as file:
            source.seek(stretch.offset)
            left = stretch.num_bytes
            while left:
                data = source.read(min(left, _COPY_BYTES))
                file.write(data)
                left -= len(data)


def open_tar(path: Path, limits: ArchiveLimits, at_once: int | None = None) -> StretchContainer:
    """Return the files of an uncompressed tar archive, without copying them.

    Args:
        at_once: How many members to look at; left out: as many as the budgets allow.
    """
    stretches: dict[str, Stretch] = {}
    folders: dict[str, None] = {}
    rejected: list[tuple[str, str]] = []
    num_unsure = 0
    with path.open("rb") as file:
        for member in read_headers(file, limits, at_once):
            if isinstance(member, RejectedMember):
                rejected.append((member.name, member.reason))
                continue
            num_unsure += not member.is_sure
            if member.entry.is_folder:
                folders[member.entry.name] = None
            else:
                if stretches.pop(member.entry.name, None) is not None:
                    rejected.append((member.entry.name, IS_REPLACED))
                stretches[member.entry.name] = Stretch(path, member.offset, member.entry.num_bytes)
    return StretchContainer(stretches, limits, list(folders), rejected, num_unsure)


def copy_within(source: IO[bytes], target: BinaryIO, name: str, max_bytes: int) -> None:
    """Copy a stream, or raise `ArchiveRefusedError` once more than `max_bytes` came out of it."""
    left = max_bytes
    while data := source.read(_COPY_BYTES):
        left -= len(data)
        if left < 0:
            raise too_large(name, max_bytes)
        target.write(data)


def too_large(name: str, max_bytes: int) -> ArchiveRefusedError:
    """Return the error of a table or shard that is too large."""
    return ArchiveRefusedError(
        "file_too_large", f"{quote_name(name)} is larger than {max_bytes} bytes.", "Split it into parts."
    )
