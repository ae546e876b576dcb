"""Reading hostile zip archives: first a look at the central directory, then member bytes under budgets.

Nothing is ever extracted: members are read into memory one at a time and stored under names of our own, so a member's
name can steer nothing. What the directory already gives away (traversal, links, bombs, overlaps: Fifield, "A better
zip bomb", 2019) is refused before a byte is unpacked; what it lies about is caught while reading.
"""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from contract.names import shorten
from registry.errors import ArchiveRefusedError
from registry.zip_directory import DirectoryFile, header_bytes, member_name

_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_OTHER_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 99: "encryption"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MAX_REASON_CHARACTERS = 200  # an error may quote a header that the archive chose
_DRIVE = re.compile(r"^[A-Za-z]:")
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError)
"""What unpacking a damaged member raises."""
IS_SYMLINK, IS_REPLACED = "is a symbolic link", "is replaced by a later entry of the same name"


@dataclass(frozen=True)
class ArchiveLimits:
    """Budgets for one archive.

    Attributes:
        max_members: Entries, folders included.
        max_member_bytes: Unpacked size of one file.
        max_total_bytes: Unpacked size of all files together.
        max_ratio: Unpacked over packed size of the whole archive, once it unpacks to over `ratio_floor_bytes`.
        ratio_floor_bytes: Tables that unpack to less than this may have any ratio.
        drawings_bytes: Archives that unpack to less than this may have any ratio: drawings compress a thousandfold.
        max_shard_bytes: Size of one WebDataset or Parquet shard within an archive.
        max_table_bytes: Size of a table of labels: metadata, a manifest, classnames.
        max_classes: Number of different labels.
        max_classname_characters: Of all class names together, which every response about the data set contains.
    """

    max_members: int = 500_000
    max_member_bytes: int = 64 << 20
    max_total_bytes: int = 32 << 30
    max_ratio: float = 50.0
    ratio_floor_bytes: int = 64 << 20
    drawings_bytes: int = 1 << 30
    max_shard_bytes: int = 8 << 30
    max_table_bytes: int = 256 << 20
    max_classes: int = 30_000
    max_classname_characters: int = 1 << 20


@dataclass(frozen=True)
class Inspection:
    """What an archive's directory says.

    Attributes:
        members: Regular files and folders in the directory's order; each `filename` is relative, plain and unique.
        rejected: Names of members that are left out, with reasons.
        num_unsure: Number of names that are neither marked as UTF-8 nor valid UTF-8.
    """

    members: list[zipfile.ZipInfo]
    rejected: list[tuple[str, str]] = field(default_factory=list)
    num_unsure: int = 0


def inspect_members(path: Path, limits: ArchiveLimits, at_once: int | None = None) -> Inspection:
    """Return the archive's regular files and folders, after checking its central directory.

    Args:
        limits: The budgets, compared with the sizes that the directory declares.
        at_once: How many entries to look at; left out: as many as the budgets allow.

    Returns:
        The members. Links, and entries that a later one of the same name replaces, are rejected.
    """
    members = _list_members(path, limits, limits.max_members if at_once is None else at_once)
    num_unsure = 0
    for member in members:
        member.filename, is_sure = member_name(member)
        check_name(member.filename)
        num_unsure += not is_sure
        _check_kind(member)
    _check_size(members, path.stat().st_size, limits)
    _check_overlap(members, path.stat().st_size)
    kept, rejected = _sort_out(members)
    return Inspection(kept, rejected, num_unsure)


def _sort_out(members: list[zipfile.ZipInfo]) -> tuple[list[zipfile.ZipInfo], list[tuple[str, str]]]:
    last = {member.filename: member for member in members}
    kept: list[zipfile.ZipInfo] = []
    rejected: list[tuple[str, str]] = []
    for member in members:
        if stat.S_ISLNK(member.external_attr >> 16):
            rejected.append((member.filename, IS_SYMLINK))
        elif last[member.filename] is not member:
            rejected.append((member.filename, IS_REPLACED))
        else:
            kept.append(member)
    return kept, rejected


def _list_members(path: Path, limits: ArchiveLimits, at_once: int) -> list[zipfile.ZipInfo]:
    try:
        with (
            DirectoryFile(path, limits.max_members, header_bytes(limits.max_members), at_once) as file,
            zipfile.ZipFile(file) as archive,
        ):
            return archive.infolist()
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, UnicodeDecodeError, ValueError) as error:
        reason = str(error)[:_MAX_REASON_CHARACTERS]
        raise ArchiveRefusedError(
            "not_a_zip", f"The zip archive cannot be read ({reason}).", "Create the archive again."
        ) from error


class OpenArchive:
    """An archive that is read member by member, by the names that `inspect_members` gives."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)
        self._members = {member_name(member)[0]: member for member in self._archive.infolist()}

    def open(self, name: str) -> IO[bytes]:
        """Return the unpacked bytes of a member; raise one of `UNREADABLE` if it is damaged."""
        return self._archive.open(self._members[name])


def read_members(
    path: Path | OpenArchive, names: Iterable[str], limits: ArchiveLimits, most_bytes: int | None = None
) -> Iterator[tuple[str, bytes | str]]:
    """Yield `(name, bytes)` for each named member, or `(name, reason)` for one that cannot be read.

    Args:
        names: Names of regular files in it.
        limits: The budgets, compared with the bytes that are really unpacked, not with declared sizes.
        most_bytes: Maximum to read of each member; default: all.

    Raises:
        ArchiveRefusedError: It unpacks to more bytes than the budget allows.
    """
    total = 0
    wanted = limits.max_member_bytes + 1 if most_bytes is None else most_bytes
    archive = path if isinstance(path, OpenArchive) else OpenArchive(path)
    for name in names:
        try:
            with archive.open(name) as file:
                data = file.read(wanted)
        except UNREADABLE as error:
            yield name, f"damaged in the archive ({str(error)[:_MAX_REASON_CHARACTERS]})"
            continue
        total += len(data)
        if total > limits.max_total_bytes:
            raise refuse_bomb(f"The archive unpacks to more than {limits.max_total_bytes} bytes.")
        yield name, data if len(data) <= limits.max_member_bytes else f"larger than {limits.max_member_bytes} bytes"


def check_name(name: str) -> None:
    """Raise `ArchiveRefusedError` if a member's name is not relative and plain; folders end with a slash."""
    name = name.removesuffix("\r") if name.rpartition("/")[2] == "Icon\r" else name  # of a folder, on a Mac; ignored
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or _DRIVE.match(name):
        raise refuse_name("absolute_path", name, "is an absolute path")
    if ".." in parts:
        raise refuse_name("path_traversal", name, "points outside the archive")
    if "\\" in name or _CONTROL.search(name):
        raise refuse_name("bad_name", name, "contains a backslash or a control character")
    if len(name) > 1024 or any(len(part.encode()) > 255 for part in parts):
        raise refuse_name("bad_name", name, "is too long")
    if not name.endswith("/") and not PurePosixPath(name).parts:
        raise refuse_name("bad_name", name, "names nothing")


def _check_kind(member: zipfile.ZipInfo) -> None:
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise refuse_name("special_file", member.filename, "is neither a file nor a folder")
    if member.flag_bits & _ENCRYPTED:
        raise refuse_name("encrypted", member.filename, "is encrypted")
    if member.compress_type not in _METHODS:
        method = _OTHER_METHODS.get(member.compress_type, f"method {member.compress_type}")
        raise refuse_name("bad_compression", member.filename, f"is compressed with {method}")


def _check_size(members: list[zipfile.ZipInfo], archive_bytes: int, limits: ArchiveLimits) -> None:
    total = sum(member.file_size for member in members)
    ratio = total / max(archive_bytes, 1)
    if total > limits.max_total_bytes:
        raise refuse_bomb(f"The archive unpacks to {total} bytes; the limit is {limits.max_total_bytes}.")
    is_large = total > limits.drawings_bytes or any(each.file_size > limits.max_member_bytes for each in members)
    if is_large and ratio > limits.max_ratio:
        raise refuse_bomb(
            f"The archive unpacks to {total} bytes, {ratio:.0f} times its size; the limit is {limits.max_ratio:.0f}."
        )


def _check_overlap(members: list[zipfile.ZipInfo], archive_bytes: int) -> None:
    ordered = sorted(members, key=lambda member: member.header_offset)
    if ordered and ordered[0].header_offset < 0:
        raise ArchiveRefusedError(
            "not_a_zip", "The beginning of the archive is missing.", "Create the archive again and upload it."
        )
    ends = [*(member.header_offset for member in ordered[1:]), archive_bytes]
    for member, end in zip(ordered, ends, strict=False):  # an empty archive has an end, but no member
        if member.header_offset + _LOCAL_HEADER_BYTES + member.compress_size > end:
            raise refuse_bomb(f"Entry {quote_name(member.filename)} overlaps another entry.")


def refuse_bomb(detail: str) -> ArchiveRefusedError:
    """Return the error of an archive that unpacks to too much."""
    return ArchiveRefusedError(
        "archive_bomb", detail, "Split it into smaller uploads, or save uncompressed images (BMP, TIFF) as PNG."
    )


_REMEDIES = {
    "encrypted": "Create the archive again without a password.",
    "bad_compression": "Create the archive again with `deflate` compression, the default of `zip -r` and Windows.",
    "sparse_file": "Create the archive again without `--sparse`.",
    "special_file": "Remove devices, pipes and sockets.",
    "bad_name": "Rename the file, and create the archive again.",
}


def refuse_name(code: str, name: str, what: str) -> ArchiveRefusedError:
    """Return the error of an archive with a member that must not be there."""
    advice = _REMEDIES.get(code, "Create the archive again from within the folder, so that names are relative.")
    return ArchiveRefusedError(code, f"Entry {quote_name(name)} {what}.", advice)


def refuse_table(name: str, reason: str) -> ArchiveRefusedError:
    """Return the error of a table that cannot be read."""
    reason = shorten(" ".join(reason[:1000].split()), _MAX_REASON_CHARACTERS)
    return ArchiveRefusedError(
        "bad_table", f"{quote_name(name)} cannot be read ({reason}).", "Replace or remove that file."
    )


def quote_name(name: str) -> str:
    """Return a member's name for a message, shortened."""
    return repr(name if len(name) <= 120 else name[:117] + "...")
