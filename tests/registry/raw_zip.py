"""Zip archives written byte by byte, so that every field can lie. `zipfile` writes only honest ones."""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

STORED, DEFLATED, BZIP2, LZMA = 0, 8, 12, 14
UTF8, ENCRYPTED = 0x800, 0x1
PIXELS = b"not really a picture"


@dataclass(frozen=True)
class Entry:
    """A member. What is left None is told truly, in the local header and in the directory alike.

    Attributes:
        unix_mode: Upper half of the external attributes.
        packed: Bytes between this local header and the next, if not the packed `data`.
        offset: Where the directory says that the local header is.
        local_name: The name in the local header.
        extra: The directory's extra field.
    """

    name: str | bytes = "cat/1.jpg"
    data: bytes = PIXELS
    method: int = STORED
    flags: int = UTF8
    unix_mode: int = 0o100644
    crc: int | None = None
    declared_bytes: int | None = None
    packed: bytes | None = None
    declared_packed_bytes: int | None = None
    offset: int | None = None
    local_name: bytes | None = None
    extra: bytes = b""

    def raw_name(self) -> bytes:
        return self.name.encode() if isinstance(self.name, str) else self.name

    def raw_packed(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflate(self.data) if self.method == DEFLATED else self.data

    def fields(self) -> tuple[int, int, int, int, int, int, int, int]:
        crc = zlib.crc32(self.data) if self.crc is None else self.crc
        packed = len(self.raw_packed()) if self.declared_packed_bytes is None else self.declared_packed_bytes
        declared = len(self.data) if self.declared_bytes is None else self.declared_bytes
        return 20, self.flags, self.method, 0, 0x21, crc, packed, declared

    def local(self) -> bytes:
        name = self.raw_name() if self.local_name is None else self.local_name
        return struct.pack("<4s5H3L2H", b"PK\3\4", *self.fields(), len(name), 0) + name

    def central(self, offset: int) -> bytes:
        name = self.raw_name()
        offset = offset if self.offset is None else self.offset
        rest = (len(name), len(self.extra), 0, 0, 0, self.unix_mode << 16, offset)
        return struct.pack("<4s6H3L5H2L", b"PK\1\2", 0x0314, *self.fields(), *rest) + name + self.extra


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def zip_bytes(*entries: Entry, declared_entries: int | None = None, comment: bytes = b"") -> bytes:
    body = b""
    directory = b""
    for entry in entries:
        directory += entry.central(len(body))
        body += entry.local() + entry.raw_packed()
    return body + directory + end_record(len(entries), len(directory), len(body), declared_entries, comment)


def end_record(
    num: int, directory_bytes: int, directory_offset: int, declared: int | None = None, comment: bytes = b""
) -> bytes:
    num = num if declared is None else declared
    fields = (0, 0, num, num, directory_bytes, directory_offset, len(comment))
    return struct.pack("<4s4H2LH", b"PK\5\6", *fields) + comment


def quoted_overlap(num: int, kernel_bytes: int) -> bytes:
    """Fifield's bomb: each member's data is a stored block that quotes the next local header, down to one kernel."""
    kernel = deflate(bytes(kernel_bytes))
    parts: list[bytes] = []
    data, packed = bytes(kernel_bytes), kernel
    entries = []
    for number in reversed(range(num)):
        entry = Entry(f"cat/{number}.jpg", data, DEFLATED, packed=packed)
        entries.insert(0, entry)
        header = entry.local()
        parts.insert(0, header)
        quote = struct.pack("<BHH", 0, len(header), len(header) ^ 0xFFFF)
        data, packed = header + data, quote + header + packed
        parts.insert(0, quote)
    body = b"".join(parts[1:]) + kernel
    directory, offset = b"", 0
    for entry, header in zip(entries, parts[1::2], strict=True):
        directory += entry.central(offset)
        offset += len(header) + 5
    return body + directory + end_record(num, len(directory), len(body))


def write(folder: Path, content: bytes) -> Path:
    path = folder / "archive.zip"
    path.write_bytes(content)
    return path
