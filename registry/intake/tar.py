"""Reading the headers of a tar archive, member by member, without ever extracting anything.

A parser of our own rather than `tarfile`, which reads extended headers of any size into memory and, in the Pythons that
are about, follows links (CVE-2025-4517 and its kin). This one knows regular files and folders, in the ustar, GNU and
pax forms (POSIX.1-2017, pax; GNU tar manual, "Basic Tar Format"), and refuses the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from registry.archives import IS_SYMLINK, ArchiveLimits, check_name, refuse_bomb, refuse_name
from registry.errors import ArchiveRefusedError, LargeArchiveError
from registry.intake.names import Entry
from registry.zip_directory import header_bytes

BLOCK = 512
_MAX_END_BLOCKS = 1 << 16
"""Of zeros behind the end mark, among which another archive is looked for; programs write up to a few thousand."""

_MAX_EXTENDED_BYTES = 1 << 20  # a name, in practice
_MAX_RECORDS = 1000  # of one extended header; tar programs write about ten
_LEAST_RECORD_BYTES = 5
_FILES, _OLD_FILE, _FOLDER = (b"0", b"\0", b"7"), b"\0", b"5"
_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK, _GNU_LABEL = b"x", b"g", b"L", b"K", b"V"
_EXTENDED = (_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK)
_SPARSE = b"S"
_REJECTED = {b"1": "is a hard link to another file", b"2": IS_SYMLINK, _GNU_LABEL: "is a volume label"}


@dataclass(frozen=True)
class TarMember:
    """A regular file or folder, and where its bytes begin."""

    entry: Entry
    offset: int
    is_sure: bool = True


@dataclass(frozen=True)
class RejectedMember:
    """A member that is left out: its name, and the reason."""

    name: str
    reason: str


@dataclass
class _Pending:
    """What extended headers said about the member that follows."""

    name: bytes | None = None
    num_bytes: int | None = None
    kinds: bytes = b""


class _Effort:
    """What reading the headers has cost so far, which is bounded: in all, and for a first look of `at_once` members."""

    def __init__(self, limits: ArchiveLimits, at_once: int | None) -> None:
        self._most = limits.max_members
        self._at_once = at_once
        self._num_headers = 0
        self._num_members = 0
        self._num_bytes = 0

    def add_extended(self, num_bytes: int) -> None:
        """Count an extended header and its bytes; raise if it is one too many."""
        self._num_bytes += num_bytes
        self._add_header()

    def add_member(self) -> None:
        """Count a member's own header; raise if it is one too many."""
        self._num_members += 1
        self._add_header()

    def _add_header(self) -> None:
        self._num_headers += 1
        if self._is_over(self._most):
            raise _too_many(self._most)
        if self._at_once is not None and (self._num_members > self._at_once or self._is_over(self._at_once)):
            raise LargeArchiveError

    def _is_over(self, num_members: int) -> bool:
        # A member has at most three extended headers.
        return self._num_headers > 4 * num_members or self._num_bytes > header_bytes(num_members)


def is_header(block: bytes) -> bool:
    """Return whether 512 bytes are a tar header, by their checksum."""
    if len(block) < BLOCK or not block[0]:
        return False
    try:
        stated = _number(block[148:156])
    except ValueError:
        return False
    blank = block[:148] + b" " * 8 + block[156:BLOCK]
    # The second is that of old programs, which added signed bytes.
    return stated == sum(blank) or stated == sum(byte - 256 if byte > 127 else byte for byte in blank)


def read_headers(
    file: BinaryIO, limits: ArchiveLimits, at_once: int | None = None
) -> Iterator[TarMember | RejectedMember]:
    """Yield the regular files and folders of a tar archive, in order, and rejected members.

    Args:
        at_once: How many members to look at; left out: as many as the budgets allow.

    Yields:
        TarMember | RejectedMember: Names are relative and plain; those of folders end with a slash. If a name is
            repeated, the last member counts.

    Raises:
        ArchiveRefusedError: It is damaged, hostile, or over a budget; see `code`.
        LargeArchiveError: It has more than `at_once` members.
    """
    end = file.seek(0, 2)
    offset, total, pending, effort = 0, 0, _Pending(), _Effort(limits, at_once)
    names: set[str] = set()
    while (block := _read_block(file, offset)) is not None:
        kind, size = block[156:157], _size_of(block, offset)
        offset += BLOCK
        if kind in _EXTENDED:
            _read_extended(file, kind, offset, size, end, pending)
            effort.add_extended(size)
            offset += _padded(size)
            continue
        effort.add_member()
        if kind in _REJECTED:
            yield RejectedMember(_checked_name(pending.name or _name_of(block)), _REJECTED[kind])
            pending = _Pending()
            continue  # none of them has bytes, whatever their header says (POSIX.1-2017, ustar, `size`)
        member = _member(block, kind, offset, size if pending.num_bytes is None else pending.num_bytes, pending)
        pending = _Pending()
        _check_member(member, names, limits)
        total += member.entry.num_bytes
        if total > limits.max_total_bytes:
            raise refuse_bomb(f"The archive contains more than {limits.max_total_bytes} bytes.")
        offset += _padded(member.entry.num_bytes)
        if member.offset + member.entry.num_bytes > end:
            raise _damaged(f"the entry at byte {member.offset - BLOCK} is truncated")
        yield member
    _refuse_joined(file, offset)


def _refuse_joined(file: BinaryIO, offset: int) -> None:
    """Refuse members behind the end mark, as two archives that were joined have them; `tar` does not read them."""
    file.seek(offset)
    for _ in range(_MAX_END_BLOCKS):
        block = file.read(BLOCK)
        if any(block):
            if is_header(block):
                raise _damaged(
                    f"there are files after its end mark at byte {offset}, as if two archives were concatenated"
                )
            return
        if len(block) < BLOCK:
            return


def _read_block(file: BinaryIO, offset: int) -> bytes | None:
    """Return the header at the offset, or None at the archive's end."""
    file.seek(offset)
    block = file.read(BLOCK)
    if block == bytes(BLOCK):
        return None
    if not is_header(block):  # nor is nothing at all, where an upload was cut off between two members
        raise _damaged(f"there is no header at byte {offset}")
    return block


def _member(block: bytes, kind: bytes, offset: int, size: int, pending: _Pending) -> TarMember:
    name, is_sure = _decode(pending.name or _name_of(block))
    if kind == _FOLDER:
        return TarMember(Entry(name.rstrip("/") + "/", 0, True), offset, is_sure)
    if kind == _OLD_FILE and name.endswith("/"):
        if size:
            raise refuse_name("bad_name", name, "is a folder with content")
        return TarMember(Entry(name, 0, True), offset, is_sure)
    if kind == _SPARSE:
        raise _sparse(name)
    if kind not in _FILES:
        raise refuse_name("special_file", name, "is neither a file nor a folder")
    if name.endswith("/"):
        raise refuse_name("bad_name", name, "is a file with the name of a folder")
    return TarMember(Entry(name, size), offset, is_sure)


def _checked_name(raw: bytes) -> str:
    name, _ = _decode(raw)
    check_name(name)
    return name


def _sparse(name: str) -> ArchiveRefusedError:
    return refuse_name("sparse_file", name, "is a sparse file")


def _check_member(member: TarMember, names: set[str], limits: ArchiveLimits) -> None:
    name = member.entry.name
    check_name(name)
    names.add(name)
    if len(names) > limits.max_members:
        raise _too_many(limits.max_members)


def _read_extended(file: BinaryIO, kind: bytes, offset: int, size: int, end: int, pending: _Pending) -> None:
    if size > _MAX_EXTENDED_BYTES:
        raise _damaged(f"the extended header at byte {offset - BLOCK} is larger than {_MAX_EXTENDED_BYTES} bytes")
    if offset + size > end:
        raise _damaged(f"the extended header at byte {offset - BLOCK} is truncated")
    if kind in pending.kinds:
        raise _damaged(f"the extended header at byte {offset - BLOCK} is the second of its kind for one member")
    if kind == _GNU_NAME:
        pending.name = file.read(size).rstrip(b"\0")
    elif kind == _PAX:
        _read_pax(file.read(size), pending)
    if kind != _PAX_GLOBAL:
        pending.kinds += kind


def _read_pax(data: bytes, pending: _Pending) -> None:
    """Take name and size from records `length key=value` with a newline at the end; each byte is read once."""
    position = 0
    for _ in range(_MAX_RECORDS):
        if position == len(data):
            return
        digits, space, _ = data[position : position + 9].partition(b" ")
        end = position + int(digits) if space and digits.isdigit() else 0
        if not position + max(_LEAST_RECORD_BYTES, len(digits) + 2) <= end <= len(data):
            raise _damaged("an extended header cannot be read")
        key, _, value = data[position + len(digits) + 1 : end - 1].partition(b"=")
        _take_record(key, value, pending)
        position = end
    if position < len(data):
        raise _damaged(f"an extended header has more than {_MAX_RECORDS} records")


def _take_record(key: bytes, value: bytes, pending: _Pending) -> None:
    if key.startswith(b"GNU.sparse."):
        raise _sparse(_decode(pending.name or b"?")[0])
    if key == b"path":
        pending.name = value
    elif key == b"size":
        if not value.isdigit() or len(value) > 18:
            raise _damaged("an extended header has an invalid size")
        pending.num_bytes = int(value)


def _name_of(block: bytes) -> bytes:
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0":
        prefix = block[345:500].split(b"\0", 1)[0]
        name = prefix + b"/" + name if prefix else name
    return name


def _decode(name: bytes) -> tuple[str, bool]:
    """Return a name, and whether it is UTF-8 and so certain."""
    try:
        return name.decode(), True
    except UnicodeDecodeError:
        return name.decode("latin-1"), False


def _size_of(block: bytes, offset: int) -> int:
    try:
        return _number(block[124:136])
    except ValueError as error:
        raise _damaged(f"the header at byte {offset} has an invalid size") from error


def _number(field: bytes) -> int:
    """Return an octal number, or GNU's form of large ones: a set top bit, then big-endian bytes."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not digits.isdigit():
        if digits:
            raise ValueError(digits)
        return 0
    return int(digits, 8)


def _padded(num_bytes: int) -> int:
    return -(-num_bytes // BLOCK) * BLOCK


def _too_many(max_members: int) -> ArchiveRefusedError:
    return ArchiveRefusedError(
        "too_many_files",
        f"The archive has more entries or longer names than allowed; the limit is {max_members} entries.",
        "Split it.",
    )


def _damaged(what: str) -> ArchiveRefusedError:
    return ArchiveRefusedError(
        "damaged_archive", f"The tar archive is damaged: {what}.", "Create the archive again and upload it."
    )
