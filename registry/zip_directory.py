"""The bytes that `zipfile` reads of an archive's directory, checked before it makes an object of each entry.

`zipfile` reads the whole central directory and builds its list of entries before anybody can count them: 2,000,000
entries take 800 MB. It also copies what is left of an entry's extra field once for each record in it. So the file that
it reads from looks at the directory first. `zipfile` itself finds the directory, so no second parser can disagree.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

from registry.errors import ArchiveRefusedError, LargeArchiveError

_ENTRY = b"PK\x01\x02"
_ENTRY_BYTES = 46
_LENGTHS = struct.Struct("<3H")  # of name, extra field and comment
_LENGTHS_OFFSET = 28
_MAX_EXTRA_BYTES = 4096
"""Time stamps, owners, a Unicode name and zip64 sizes together take a few hundred."""


_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075
_WINDOWS_MAKERS = (0, 10, 11)  # MS-DOS, NTFS, and VFAT, of which the first also stands for .NET


def member_name(member: zipfile.ZipInfo) -> tuple[str, bool]:
    r"""Return a member's name as common packing tools write it, and whether it is certain.

    Without the UTF-8 flag (APPNOTE 6.3, appendix D), the name is that of the Unicode path field if its checksum fits,
    else UTF-8 if valid, as `zip -r` on Linux and the macOS Finder write it, else cp437. Windows PowerShell 5.1
    separates folders with a backslash.

    Returns:
        The name, and False if its encoding is unknown.
    """
    name, is_sure = member.orig_filename, True
    if not member.flag_bits & _UTF8_FLAG and not name.isascii():
        raw = name.encode("cp437")
        told = _unicode_path(member.extra, raw)
        try:
            name = raw.decode() if told is None else told
        except UnicodeDecodeError:
            is_sure = False
    return name.replace("\\", "/") if member.create_system in _WINDOWS_MAKERS else name, is_sure


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """Return the name in Info-ZIP's Unicode path field, if there is one that belongs to the raw name."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        body, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and len(body) > 5 and body[0] == 1:
            if int.from_bytes(body[1:5], "little") != zlib.crc32(raw):
                return None
            try:
                return body[5:].decode()
            except UnicodeDecodeError:
                return None
    return None


class DirectoryFile(io.BufferedReader):
    """A zip file for `zipfile.ZipFile`, to list its members.

    Args:
        path: The archive.
        max_entries: Maximum number of entries in its directory.
        max_bytes: Maximum size of its directory.
        at_once: Maximum number of entries to read now; a longer directory raises `LargeArchiveError`.
    """

    def __init__(self, path: Path, max_entries: int, max_bytes: int, at_once: int) -> None:
        super().__init__(path.open("rb", buffering=0))
        self._num_bytes = path.stat().st_size
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._at_once = at_once

    def read(self, size: int | None = -1, /) -> bytes:
        """Return bytes as any file does; raise `ArchiveRefusedError` if they are too large a directory."""
        left = max(self._num_bytes - self.tell(), 0)
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > self._max_bytes:
            raise _too_many(f"The zip directory has {wanted} bytes; the limit is {self._max_bytes}.")
        data = super().read(wanted)
        if data.startswith(_ENTRY):
            self._check(data)
        return data

    def _check(self, directory: bytes) -> None:
        num_entries = directory.count(_ENTRY)  # at least as many as there are
        if num_entries > self._max_entries:
            raise _too_many(f"The archive has {num_entries} entries; the limit is {self._max_entries}.")
        if num_entries > self._at_once or len(directory) > header_bytes(self._at_once):
            raise LargeArchiveError
        position = 0
        while directory.startswith(_ENTRY, position) and position + _ENTRY_BYTES <= len(directory):
            name, extra, comment = _LENGTHS.unpack_from(directory, position + _LENGTHS_OFFSET)
            if extra > _MAX_EXTRA_BYTES:
                raise ArchiveRefusedError(
                    "not_a_zip",
                    f"An entry has {extra} bytes of extra fields; the limit is {_MAX_EXTRA_BYTES}.",
                    "Create the archive again.",
                )
            position += _ENTRY_BYTES + name + extra + comment


def header_bytes(num_entries: int) -> int:
    """Return how many bytes the names and extra fields of this many entries may take."""
    return max(256 * num_entries, 1 << 20)


def _too_many(detail: str) -> ArchiveRefusedError:
    return ArchiveRefusedError("too_many_files", detail, "Split it.")
