"""Picture files that are small, or of an allowed size, and would take long to decode."""

import struct
import zlib
from collections.abc import Iterable

from PIL import Image

from tests.paint_core import tiny


def jpeg_of_scans(num_more: int, side: int = 256) -> bytes:
    """A progressive JPEG whose last scan is there so many times more."""
    file = tiny.png(Image.new("L", (side, side)), "JPEG", progressive=True)
    start = file.rindex(b"\xff\xda")
    return file[:-2] + file[start:-2] * num_more + b"\xff\xd9"


def jpeg_of_segments(segment: bytes, num_segments: int) -> bytes:
    """A JPEG with so many segments before its picture."""
    file = tiny.png(tiny.noise((8, 8)), "JPEG")
    return file[:2] + segment * num_segments + file[2:]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_chunks(before: bytes = b"", between: bytes = b"") -> bytes:
    """A PNG with chunks before its pixels, and between two halves of them."""
    pixels = zlib.compress(b"\0" + bytes(3 * 8) * 1 + (b"\0" + bytes(24)) * 7)
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    halves = [png_chunk(b"IDAT", part) for part in (pixels[:10], pixels[10:])]
    parts = (png_chunk(b"IHDR", header), before, halves[0], between, halves[1], png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def gif_of_blocks(num_blocks: int) -> bytes:
    """A GIF whose comment has so many blocks of one byte."""
    file = tiny.png(tiny.noise((8, 8), "P"), "GIF")
    colours = 13 + 3 * (2 << (file[10] & 7))
    return file[:colours] + b"\x21\xfe" + b"\x01a" * num_blocks + b"\0" + file[colours:]


def bmp_of_runs(width: int, height: int) -> bytes:
    """A BMP of which each line is one end-of-line mark."""
    body = b"\0\0" * height + b"\0\1"
    offset = 54 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + header + bytes(1024) + body


def tiff(entries: Iterable[tuple[int, int, int, bytes]], body: bytes = b"") -> bytes:
    """A little-endian TIFF: entries of tag, type, count and value, which is longer than four bytes if it has to be.

    Its first eight bytes are followed by the body, so that this begins at offset 8.
    """
    listed = sorted(entries)
    place = 8 + len(body)
    directory, values = b"", b""
    start = place + 2 + 12 * len(listed) + 4
    for tag, kind, count, value in listed:
        if len(value) > 4:
            directory += struct.pack("<HHLL", tag, kind, count, start + len(values))
            values += value
        else:
            directory += struct.pack("<HHL", tag, kind, count) + value.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<L", place) + body + struct.pack("<H", len(listed)) + directory + bytes(4) + values


def short(tag: int, *values: int) -> tuple[int, int, int, bytes]:
    """A TIFF entry of 16-bit numbers."""
    return tag, 3, len(values), struct.pack(f"<{len(values)}H", *values)


def long(tag: int, *values: int) -> tuple[int, int, int, bytes]:
    """A TIFF entry of 32-bit numbers."""
    return tag, 4, len(values), struct.pack(f"<{len(values)}L", *values)


def grey_tiff(
    width: int, height: int, compression: int, *more: tuple[int, int, int, bytes], body: bytes = bytes(64)
) -> bytes:
    """A TIFF of eight-bit grey pixels."""
    entries = (short(256, width), short(257, height), short(258, 8), short(259, compression), short(262, 1))
    return tiff((*entries, short(277, 1), *more), body)


def tiff_of_strips(num_strips: int) -> bytes:
    """A TIFF that says where so many strips begin."""
    return grey_tiff(8, 8, 1, long(273, *[8] * num_strips), short(278, 1), long(279, *[8] * num_strips))


def tiff_of_overlapping_strips(num_strips: int, side: int) -> bytes:
    """A TIFF whose strips cover the picture again and again."""
    offsets = [8 + index for index in range(num_strips)]
    return grey_tiff(side, side, 1, long(273, *offsets), short(278, side - 1), body=bytes(side * side + num_strips))


def tiff_of_a_huge_tile(tile: int) -> bytes:
    """A small TIFF in one tile that is much larger."""
    body = zlib.compress(bytes(tile * tile))
    sides = (short(322, tile), short(323, tile))
    return grey_tiff(16, 16, 8, *sides, long(324, 8), long(325, len(body)), body=body)


def tiff_of_a_jpeg(file: bytes, side: int) -> bytes:
    """A TIFF whose one strip is a JPEG."""
    return grey_tiff(side, side, 7, long(273, 8), short(278, side), long(279, len(file)), body=file)


def tiff_of_rationals(num_rationals: int) -> bytes:
    """A TIFF whose resolution is so many fractions."""
    resolution = (282, 5, num_rationals, struct.pack("<LL", 1, 1) * num_rationals)
    return grey_tiff(8, 8, 1, resolution, long(273, 8), short(278, 8), long(279, 64))


def tiff_with_exif(num_rationals: int) -> bytes:
    """A TIFF with a directory of EXIF that holds so many fractions."""
    inner = struct.pack("<HHHLL", 1, 0x9202, 5, num_rationals, 8 + 64 + 18) + bytes(4)
    body = bytes(64) + inner + struct.pack("<LL", 1, 1) * num_rationals
    return grey_tiff(8, 8, 1, long(273, 8), short(278, 8), long(279, 64), long(34665, 8 + 64), body=body)
