"""What kind of file an upload is, by its bytes, not its name; and unpacking what is compressed as a whole."""

from __future__ import annotations

import gzip
import zlib
from enum import StrEnum
from pathlib import Path
from typing import IO, BinaryIO, cast

import zstandard

from registry.archives import ArchiveLimits, refuse_bomb
from registry.errors import ArchiveRefusedError
from registry.intake.tar import BLOCK, is_header

_MAX_WINDOW_BYTES = 1 << 27  # what `zstd -d` allows without being asked
_COPY_BYTES = 1 << 20
_LEAD_BYTES = (
    2 << 20
)  # that unpacking may read ahead of what came out: a read of `_COPY_BYTES` and some blocks of 128 KiB
_FIRST_LOOK_BYTES = 256 << 10
_FAILURES = (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError)


class Format(StrEnum):
    """A kind of upload."""

    ZIP = "zip"
    TAR = "tar"
    TAR_GZ = "tar.gz"
    TAR_ZST = "tar.zst"
    PARQUET = "Parquet"


_MAGIC = (
    (b"PK\x03\x04", Format.ZIP),
    (b"PK\x05\x06", Format.ZIP),  # an empty one
    (b"\x1f\x8b", Format.TAR_GZ),
    (b"\x28\xb5\x2f\xfd", Format.TAR_ZST),
    (b"PAR1", Format.PARQUET),
)
ACCEPTED = (
    "Upload a zip, tar, tar.gz or tar.zst archive of class folders (CLASS/image or SPLIT/CLASS/image), of images with "
    "metadata.csv, metadata.jsonl or metadata.parquet, of images with a CSV manifest (filepath, title or label), of "
    "Parquet files or of WebDataset shards; or one Parquet file."
)


def detect_format(path: Path) -> Format:
    """Return what kind of file this is.

    Args:
        path: The upload.

    Returns:
        Its kind; of a compressed one, the beginning of what is inside has been looked at.

    Raises:
        ArchiveRefusedError: It is of no kind that we read.
    """
    with path.open("rb") as file:
        start = file.read(BLOCK)
    if is_header(start):
        return Format.TAR
    found = next((kind for magic, kind in _MAGIC if start.startswith(magic)), None)
    if found is None or (found in (Format.TAR_GZ, Format.TAR_ZST) and not _begins_as_tar(path, found)):
        raise ArchiveRefusedError("unknown_format", "This is no file of a kind that we read.", ACCEPTED)
    return found


def unpack_tar(path: Path, kind: Format, target: Path, limits: ArchiveLimits) -> None:
    """Write the tar archive within a compressed one.

    Args:
        path: The upload.
        kind: `TAR_GZ` or `TAR_ZST`.
        target: Where to write it.
        limits: Budgets, for all bytes that come out and for their ratio to those that went in.

    Raises:
        ArchiveRefusedError: It is damaged, or more comes out than the budgets allow.
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
            "damaged_archive", f"This {kind} archive is damaged ({str(error)[:200]}).", "Pack and upload it again."
        ) from error


def _check_budget(total: int, packed: int, limits: ArchiveLimits) -> None:
    if total > limits.max_total_bytes:
        raise refuse_bomb(f"It unpacks to more than {limits.max_total_bytes} bytes, which is the limit.")
    if total > limits.ratio_floor_bytes and total > limits.max_ratio * packed:
        raise refuse_bomb(f"It unpacks to over {limits.max_ratio:.0f} times its own size; images do not compress so.")


class _Source:
    """The bytes of a compressed file, given out only while unpacking them brings something.

    Both formats may hold any number of parts that are empty, and of bytes that mean nothing; unpacking them takes
    hours and gives no byte, so no budget of unpacked bytes ends it.

    Args:
        file: The compressed file.
        lead: Bytes that may be read beyond what came out.
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
                "damaged_archive", f"{self._lead} bytes of this archive unpack to nothing.", "Pack and upload it again."
            )
        return data


def _begins_as_tar(path: Path, kind: Format) -> bool:
    try:
        with path.open("rb") as file:
            return is_header(_open_stream(_Source(file, _FIRST_LOOK_BYTES), kind).read(BLOCK))
    except (*_FAILURES, ArchiveRefusedError):
        return False


def _open_stream(source: _Source, kind: Format) -> IO[bytes]:
    file = cast(IO[bytes], source)  # neither asks for more than `read`
    if kind is Format.TAR_GZ:
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    return cast(IO[bytes], unpacker.stream_reader(file, read_across_frames=True, closefd=False))
