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
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from registry.errors import ArchiveRefusedError
from registry.names import shorten
from registry.zip_directory import DirectoryFile, header_bytes

_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MAX_REASON_CHARACTERS = 200  # an error may quote a header that the archive chose
_DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass(frozen=True)
class ArchiveLimits:
    """Budgets for one archive.

    Attributes:
        max_members: Entries, folders included.
        max_member_bytes: Unpacked size of one file.
        max_total_bytes: Unpacked size of all files together.
        max_ratio: Unpacked over packed size of the whole archive, once it unpacks to over `ratio_floor_bytes`.
        ratio_floor_bytes: Archives that unpack to less than this may have any ratio.
        max_shard_bytes: Size of one WebDataset or Parquet shard within an archive.
        max_table_bytes: Size of a table of labels: metadata, a manifest, classnames.
        max_classes: Different labels.
        max_classname_characters: Of all classes' names together, which each answer about the data set repeats.
    """

    max_members: int = 500_000
    max_member_bytes: int = 64 << 20
    max_total_bytes: int = 32 << 30
    max_ratio: float = 50.0
    ratio_floor_bytes: int = 64 << 20
    max_shard_bytes: int = 8 << 30
    max_table_bytes: int = 256 << 20
    max_classes: int = 30_000
    max_classname_characters: int = 1 << 20


def inspect_members(path: Path, limits: ArchiveLimits, at_once: int | None = None) -> list[zipfile.ZipInfo]:
    """Return the archive's regular files and folders, having checked all that its central directory tells.

    Args:
        path: The uploaded file.
        limits: The budgets; here they hold against what the directory declares.
        at_once: How many entries to look at; left out: as many as the budgets allow.

    Returns:
        The entries in the directory's order; every name is relative, plain and unique.

    Raises:
        ArchiveRefusedError: It is not a zip file, is damaged, encrypted, or hostile; `code` says which.
        LargeArchiveError: It has more than `at_once` entries, but is within the budgets.
    """
    members = _list_members(path, limits, limits.max_members if at_once is None else at_once)
    for member in members:
        check_name(member.orig_filename)
        check_name(member.filename)  # newer Pythons take it from an extra field
        _check_kind(member)
    _check_unique(members)
    _check_size(members, path.stat().st_size, limits)
    _check_overlap(members, path.stat().st_size)
    return members


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
            "not_a_zip", f"This is not a readable zip archive ({reason}).", "Pack it anew."
        ) from error


def read_members(
    path: Path, names: Iterator[str] | list[str], limits: ArchiveLimits
) -> Iterator[tuple[str, bytes | str]]:
    """Yield `(name, bytes)` for each named member, or `(name, reason)` for one that cannot be read.

    Args:
        path: An archive that `inspect_members` accepted.
        names: Names of regular files in it.
        limits: The budgets; here they hold against what is really unpacked, not what was declared.

    Yields:
        tuple[str, bytes | str]: One pair a name, in the order of `names`.

    Raises:
        ArchiveRefusedError: More bytes came out than the budget allows.
    """
    total = 0
    with zipfile.ZipFile(path) as archive:
        for name in names:
            try:
                with archive.open(name) as file:
                    data = file.read(limits.max_member_bytes + 1)
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
                yield name, f"damaged in the archive ({str(error)[:_MAX_REASON_CHARACTERS]})"
                continue
            total += len(data)
            if total > limits.max_total_bytes:
                raise refuse_bomb(f"More than {limits.max_total_bytes} bytes came out of it.")
            yield name, data if len(data) <= limits.max_member_bytes else f"larger than {limits.max_member_bytes} bytes"


def check_name(name: str) -> None:
    """Raise `ArchiveRefusedError` if a member's name is not relative and plain; folders end with a slash."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or _DRIVE.match(name):
        raise refuse_name("absolute_path", name, "is an absolute path")
    if ".." in parts:
        raise refuse_name("path_traversal", name, "points outside the archive")
    if "\\" in name or _CONTROL.search(name):
        raise refuse_name("bad_name", name, "holds a backslash or a control character")
    if len(name) > 1024 or any(len(part.encode()) > 255 for part in parts):
        raise refuse_name("bad_name", name, "is too long")
    if not name.endswith("/") and not PurePosixPath(name).parts:
        raise refuse_name("bad_name", name, "names nothing")


def _check_kind(member: zipfile.ZipInfo) -> None:
    mode = member.external_attr >> 16
    if stat.S_ISLNK(mode):
        raise refuse_name("symlink", member.filename, "is a symbolic link")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise refuse_name("special_file", member.filename, "is neither a file nor a folder")
    if member.flag_bits & _ENCRYPTED:
        raise refuse_name("encrypted", member.filename, "is encrypted")
    if member.compress_type not in _METHODS:
        raise refuse_name("bad_compression", member.filename, "uses a compression other than deflate")


def _check_unique(members: list[zipfile.ZipInfo]) -> None:
    name, times = Counter(member.filename for member in members).most_common(1)[0] if members else ("", 1)
    if times > 1:
        raise refuse_name("duplicate_name", name, f"is there {times} times")


def _check_size(members: list[zipfile.ZipInfo], archive_bytes: int, limits: ArchiveLimits) -> None:
    total = sum(member.file_size for member in members)
    ratio = total / max(archive_bytes, 1)
    if total > limits.max_total_bytes:
        raise refuse_bomb(f"It unpacks to {total} bytes; {limits.max_total_bytes} is the limit.")
    if total > limits.ratio_floor_bytes and ratio > limits.max_ratio:
        raise refuse_bomb(
            f"It unpacks to {total} bytes, {ratio:.0f} times its own size; images do not compress like that."
        )


def _check_overlap(members: list[zipfile.ZipInfo], archive_bytes: int) -> None:
    ordered = sorted(members, key=lambda member: member.header_offset)
    if ordered and ordered[0].header_offset < 0:
        raise ArchiveRefusedError("not_a_zip", "Its beginning is missing.", "Pack and upload it again.")
    ends = [*(member.header_offset for member in ordered[1:]), archive_bytes]
    for member, end in zip(ordered, ends, strict=False):  # an empty archive has an end, but no member
        if member.header_offset + _LOCAL_HEADER_BYTES + member.compress_size > end:
            raise refuse_bomb(f"Its entry {quote_name(member.filename)} overlaps another.")


def refuse_bomb(detail: str) -> ArchiveRefusedError:
    """Return the error of an archive that unpacks to too much."""
    return ArchiveRefusedError("archive_bomb", detail, "Pack the images anew, without nesting archives.")


def refuse_name(code: str, name: str, what: str) -> ArchiveRefusedError:
    """Return the error of an archive with a member that must not be there."""
    return ArchiveRefusedError(
        code, f"Entry {quote_name(name)} {what}.", "Pack plain folders and image files only, with relative names."
    )


def refuse_table(name: str, reason: str) -> ArchiveRefusedError:
    """Return the error of a table that cannot be read."""
    reason = shorten(" ".join(reason[:1000].split()), _MAX_REASON_CHARACTERS)
    return ArchiveRefusedError(
        "bad_table", f"{quote_name(name)} cannot be read ({reason}).", "Write it anew, as UTF-8."
    )


def quote_name(name: str) -> str:
    """Return a member's name for a message, shortened."""
    return repr(name if len(name) <= 120 else name[:117] + "...")
