"""What kind of file an upload is, by its bytes, not its name; and unpacking what is compressed as a whole."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import IO, BinaryIO, Protocol, cast

import zstandard

from registry.archives import ArchiveLimits, refuse_bomb
from registry.errors import ArchiveRefusedError
from registry.intake.single_files import explain_file
from registry.intake.tar import BLOCK, is_header

_MAX_WINDOW_BYTES = 1 << 27  # what `zstd -d` allows without being asked
_COPY_BYTES = 1 << 20
_READ_BYTES = 1 << 14
_LEAD_BYTES = (
    2 << 20
)  # that unpacking may read ahead of what came out: a read of `_COPY_BYTES` and some blocks of 128 KiB
_FIRST_LOOK_BYTES = 256 << 10
_FIRST_LOOK_BZIP2_BYTES = 1 << 20  # one of its blocks
_MAX_XZ_BYTES = 256 << 20  # of memory; `xz -9` asks for 65 MiB
_FAILURES = (lzma.LZMAError, gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError)


class Format(StrEnum):
    """A kind of upload."""

    ZIP = "zip"
    TAR = "tar"
    TAR_GZ = "tar.gz"
    TAR_ZST = "tar.zst"
    TAR_XZ = "tar.xz"
    TAR_BZ2 = "tar.bz2"
    PARQUET = "Parquet"


_MAGIC = (
    (b"PK\x03\x04", Format.ZIP),
    (b"PK\x05\x06", Format.ZIP),  # an empty one
    (b"\x1f\x8b", Format.TAR_GZ),
    (b"\x28\xb5\x2f\xfd", Format.TAR_ZST),
    (b"\xfd7zXZ\x00", Format.TAR_XZ),
    (b"BZh", Format.TAR_BZ2),
    (b"PAR1", Format.PARQUET),
)
ACCEPTED = (
    "Upload a zip, tar, tar.gz, tar.zst, tar.xz or tar.bz2 archive of class folders (CLASS/image or "
    "SPLIT/CLASS/image), of images with metadata.csv, metadata.jsonl or metadata.parquet, of images with a CSV "
    "manifest (filepath, title or label), of Parquet files or of WebDataset shards; or one Parquet file."
)


def detect_format(path: Path) -> Format:
    """Return the format of a file; in a compressed one, the beginning of the content is checked too.

    Raises:
        ArchiveRefusedError: The format is not supported.
    """
    with path.open("rb") as file:
        start = file.read(BLOCK)
    if is_header(start):
        return Format.TAR
    found = next((kind for magic, kind in _MAGIC if start.startswith(magic)), None)
    if found in COMPRESSED:
        inside = _first_block(path, found)
        if not is_header(inside):
            raise explain_file(inside, f"a {found.removeprefix('tar.')} file, but not of a tar archive", ACCEPTED)
    if found is None:
        raise explain_file(start, "", ACCEPTED)
    return found


COMPRESSED = (Format.TAR_GZ, Format.TAR_ZST, Format.TAR_XZ, Format.TAR_BZ2)


def unpack_tar(path: Path, kind: Format, target: Path, limits: ArchiveLimits) -> None:
    """Write the tar archive that a compressed file contains.

    Args:
        limits: Budgets for the unpacked bytes and for their ratio to the compressed ones.

    Raises:
        ArchiveRefusedError: It is damaged, or unpacks to more than the budgets allow.
    """
    packed, total = path.stat().st_size, 0
    try:
        with path.open("rb") as packed_file, target.open("wb") as file:
            source = _Source(packed_file, _LEAD_BYTES)
            stream = _open_stream(source, kind)
            while data := stream.read(_COPY_BYTES):
                total += len(data)
                source.num_unpacked = total
                _check_budget(total, packed, limits)
                file.write(data)
    except _FAILURES as error:
        raise ArchiveRefusedError(
            "damaged_archive",
            f"The {kind} archive is damaged ({str(error)[:200]}).",
            "Create the archive again and upload it.",
        ) from error


def _check_budget(total: int, packed: int, limits: ArchiveLimits) -> None:
    if total > limits.max_total_bytes:
        raise refuse_bomb(f"The archive unpacks to more than the limit of {limits.max_total_bytes} bytes.")
    if total > limits.drawings_bytes and total > limits.max_ratio * packed:
        raise refuse_bomb(f"The archive unpacks to more than {limits.max_ratio:.0f} times its size, the limit.")


class _Source:
    """The bytes of a compressed file, provided only while unpacking them produces output.

    Both formats may contain any number of empty parts and meaningless bytes. Unpacking those takes hours and
    produces no byte, so no budget of unpacked bytes would end it.

    Args:
        lead: Bytes that may be read beyond those that were unpacked.
    """

    def __init__(self, file: BinaryIO, lead: int) -> None:
        self._file = file
        self._lead = lead
        self._num_read = 0
        self.num_unpacked = 0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; raise `ArchiveRefusedError` if too many of them brought nothing."""
        data = self._file.read(size)
        self._num_read += len(data)
        if self._num_read > self.num_unpacked + self._lead:
            raise ArchiveRefusedError(
                "damaged_archive",
                f"The first {self._lead} bytes of the archive unpack to nothing.",
                "Create the archive again and upload it.",
            )
        return data


def _first_block(path: Path, kind: Format) -> bytes:
    """Return the first bytes within a compressed file; none if it is damaged."""
    try:
        with path.open("rb") as file:
            lead = _FIRST_LOOK_BZIP2_BYTES if kind is Format.TAR_BZ2 else _FIRST_LOOK_BYTES
            return _open_stream(_Source(file, lead), kind).read(BLOCK)
    except (*_FAILURES, ArchiveRefusedError):
        return b""


def _open_stream(source: _Source, kind: Format) -> IO[bytes]:
    file = cast(IO[bytes], source)  # none asks for more than `read`
    if kind is Format.TAR_GZ:
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if kind is Format.TAR_XZ:
        return cast(IO[bytes], _Streams(source, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _MAX_XZ_BYTES)))
    if kind is Format.TAR_BZ2:
        return cast(IO[bytes], _Streams(source, bz2.BZ2Decompressor))
    unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    return cast(IO[bytes], unpacker.stream_reader(file, read_across_frames=True, closefd=False))


class _Decompressor(Protocol):
    """What `bz2` and `lzma` have in common."""

    @property
    def eof(self) -> bool:
        """Whether its stream has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes out without more bytes."""

    @property
    def unused_data(self) -> bytes:
        """What follows its stream."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Return what the bytes unpack to, at most so much at a time."""


class _Streams:
    """The bytes of a bzip2 or xz file, which may contain several streams; `lzma.open` has no memory limit.

    Args:
        source: The compressed bytes.
        start: Creates a decompressor for the next stream.
    """

    def __init__(self, source: _Source, start: Callable[[], _Decompressor]) -> None:
        self._source = source
        self._start = start
        self._current = start()

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most so many; none at the end."""
        while True:
            if self._current.eof:
                rest = (self._current.unused_data or self._source.read(_READ_BYTES)).lstrip(b"\0")
                if not rest and not self._source.read(1):
                    return b""
                self._current = self._start()
            else:
                rest = self._source.read(_READ_BYTES) if self._current.needs_input else b""
                if not rest and self._current.needs_input:
                    raise EOFError("it ends within a stream")
            try:
                data = self._current.decompress(rest, size)
            except OSError as error:  # how `bz2` says that they are no such bytes
                raise EOFError(str(error)) from error
            if data:
                return data
