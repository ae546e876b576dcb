"""What an image file's header says about the cost of decoding it, read without a decoder.

The size and the number of scans are known in microseconds, so a request can be refused, counted and put in order before
any of its images is decoded. `decoding.py` checks again what Pillow finds.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_SCAN_SHARE = 1 / 25
"""What a scan of a JPEG costs, as a share of decoding and resizing as many pixels of a PNG."""

_PROFILE_WORK = 2.5
"""Megapixels of a PNG that it costs as much to read as a colour profile with tables, at most 60 ms."""
_PROFILE_CHUNKS, _FIRST_CHUNKS_BYTES = (b"iCCP", b"ICCP"), 1 << 12
_TIFF_PROFILE, _TABLE = 34_675, b"A2B0"

SCAN = b"\xff\xda"
"""With which each scan of a JPEG begins, and nothing else in it but its metadata."""

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither stuffing, nor fill bytes, nor a restart marker
_MARK, _START_OF_SCAN, _END_OF_IMAGE = 0xFF, 0xDA, 0xD9
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC9})
_ARITHMETIC = frozenset({0xC9, 0xCA})
_APP1, _APP2 = 0xE1, 0xE2
_EXIF, _PROFILE = b"Exif\0\0", b"ICC_PROFILE\0"
_METADATA = frozenset({0xFE, *range(0xE1, 0xEE), 0xEF})  # APP0 and APP14 define the colour space
_MAX_SEGMENTS, _MOST_FILL_BYTES = 1000, 1 << 12
_MAX_TIFF_ENTRIES = 1000
_TIFF_SIDES = (256, 257)
_TIFF_BYTES, _TIFF_NUMBERS = frozenset({1, 2, 6, 7}), {3: "H", 4: "L", 16: "Q"}
_USUAL_SCANS, _LOOKED_AT_BYTES = 10, 1 << 14


PPM_HEADER = re.compile(rb"P[1-6Ff](?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})\s")
MOST_PPM_BYTES = 1 << 12
_OTHER_STARTS = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"<svg": "SVG",
    b"<?xml": "XML or SVG",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
    b"\0\0\1\0": "ICO",
    b"%!PS": "PostScript",
    b"gimp xcf": "GIMP",
    b"v/1\1": "OpenEXR",
    b"SIMPLE  =": "FITS",
    b"qoif": "QOI",
    b"PK\3\4": "a zip archive",
}
_OTHER_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "Canon raw",
}
"""By the brand of a file of ISO's base media format."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an image's header says.

    Attributes:
        work: approximate cost of decoding, in megapixels of a PNG.
        scans: number of passes of a decoder, estimated if more than one.
        num_values: number of values in a TIFF's directory, such as offsets of strips; Pillow reads them one by one.
    """

    width: int
    height: int
    work: float
    scans: int = 1
    num_values: int = 0

    @property
    def pixels(self) -> int:
        """Pixels to decode."""
        return self.width * self.height


def read_header(data: bytes) -> Header | None:
    """What the header of an image file says; None if it cannot be read: the image most likely cannot either."""
    try:
        if data.startswith(b"\xff\xd8"):
            return _read_jpeg(data)
        if data.startswith((b"II", b"MM")):
            return _read_tiff(data)
        size = _read_size(data)
    except (struct.error, IndexError, OverflowError):
        return None
    if size is None:
        return None
    has_profile = any(data.find(chunk, 0, _FIRST_CHUNKS_BYTES) > 0 for chunk in _PROFILE_CHUNKS)
    return Header(*size, work=size[0] * size[1] / 1e6 + has_profile * _PROFILE_WORK)


def name_other_format(data: bytes) -> str | None:
    """What a file is, if it is of a kind that people take for an image and that is not read."""
    if data[4:8] == b"ftyp":
        return _OTHER_BRANDS.get(data[8:12], "a video")
    if data[128:132] == b"DICM":
        return "DICOM"
    start = data[:64].lstrip()
    return next((kind for magic, kind in _OTHER_STARTS.items() if start.startswith(magic)), None)


class CheckedFile(NamedTuple):
    """An image file as a decoder may open it.

    Attributes:
        data: the file, a JPEG without its metadata.
        metadata: of a JPEG: `exif` and `icc_profile` if the file has them, with Pillow's names.
        is_plain: whether parsing the header is known to take few reads: a JPEG of at most a thousand segments with
            nothing between them.
    """

    data: bytes
    metadata: dict[str, bytes]
    is_plain: bool


def strip_metadata(data: bytes) -> CheckedFile:
    """A JPEG without comments, EXIF, colour profiles and previews, and what of these a viewer needs.

    Pillow would parse all of them, in as many steps as there are segments.
    """
    kept, exif = [data[:2]], b""
    profile: dict[int, bytes] = {}
    is_plain, previous = True, 2
    try:
        for marker, begin, end in _segments(data):
            is_plain, previous = is_plain and begin == previous, end
            if marker == _START_OF_SCAN:
                return CheckedFile(b"".join((*kept, data[begin:])), _metadata(exif, profile), is_plain)
            if marker not in _METADATA:
                kept.append(data[begin:end])
            elif marker == _APP1 and not exif and data.startswith(_EXIF, begin + 4):
                exif = data[begin + 4 : end]
            elif marker == _APP2 and data.startswith(_PROFILE, begin + 4):
                profile[data[begin + 16]] = data[begin + 18 : end]
    except IndexError:
        pass
    return CheckedFile(data, {}, is_plain=False)


def _metadata(exif: bytes, profile: dict[int, bytes]) -> dict[str, bytes]:
    found = {"exif": exif} if exif else {}
    if profile:
        found["icc_profile"] = b"".join(part for _, part in sorted(profile.items()))
    return found


def _read_size(data: bytes) -> tuple[int, int] | None:
    if data.startswith(b"\x89PNG"):
        return struct.unpack_from(">II", data, 16)
    if data.startswith(b"GIF8"):
        return struct.unpack_from("<HH", data, 6)
    if data.startswith(b"BM"):
        if struct.unpack_from("<I", data, 14)[0] == 12:  # OS/2
            return struct.unpack_from("<HH", data, 18)
        width, height = struct.unpack_from("<ii", data, 18)
        return abs(width), abs(height)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _read_webp_size(data)
    found = PPM_HEADER.match(data, 0, MOST_PPM_BYTES)
    return (int(found[1]), int(found[2])) if found else None


def _read_webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _read_tiff(data: bytes) -> Header | None:
    order = "<" if data.startswith(b"II") else ">"
    counts, entry, place = ("H", "HHL4s", 4) if struct.unpack_from(order + "H", data, 2)[0] == 42 else ("Q", "HHQ8s", 8)
    start = struct.unpack_from(order + ("L" if place == 4 else "Q"), data, place)[0]
    num_entries = struct.unpack_from(order + counts, data, start)[0]
    start += struct.calcsize(order + counts)
    sides: dict[int, int] = {}
    num_values, work = 0, 0.0
    for index in range(min(num_entries, _MAX_TIFF_ENTRIES)):
        tag, kind, count, value = struct.unpack_from(
            order + entry, data, start + index * struct.calcsize(order + entry)
        )
        work += (tag == _TIFF_PROFILE) * _PROFILE_WORK
        num_values += 0 if kind in _TIFF_BYTES else count
        if tag in _TIFF_SIDES:
            sides.setdefault(tag, struct.unpack_from(order + _TIFF_NUMBERS.get(kind, "L"), value)[0])
    if len(sides) < len(_TIFF_SIDES):
        return None
    width, height = (sides[tag] for tag in _TIFF_SIDES)
    return Header(width, height, width * height / 1e6 + work, num_values=num_values)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The first segments of a JPEG file: marker, where the segment begins, where it ends."""
    position = 2
    for _ in range(_MAX_SEGMENTS):
        begin = position
        if data[begin] != _MARK or not 0 < data[begin + 1] < _MARK:  # fill bytes, or junk
            found = _MARKER.search(data, begin, begin + _MOST_FILL_BYTES)
            if found is None:
                return
            begin = found.start()
        marker = data[begin + 1]
        if marker == _END_OF_IMAGE:
            return
        position = begin + 2
        if marker not in _WITHOUT_LENGTH:
            position += max(2, data[position] << 8 | data[position + 1])
        yield marker, begin, position


def _read_jpeg(data: bytes) -> Header | None:
    frame = width = height = num_components = 0
    has_table = False
    for marker, begin, end in _segments(data):
        if marker == _APP2 and data.startswith(_PROFILE, begin + 4):
            has_table = has_table or data.find(_TABLE, begin, end) > 0
        elif marker in _FRAMES:
            frame = marker
            height, width, num_components = struct.unpack_from(">HHB", data, begin + 5)
        elif marker == _START_OF_SCAN:
            if not frame:
                return None
            is_single = frame in _SEQUENTIAL and data[begin + 4] == num_components
            scans = 1 if is_single else max(_USUAL_SCANS, data.count(SCAN, begin, begin + _LOOKED_AT_BYTES))
            cost = scans * _SCAN_SHARE * (2 if frame in _ARITHMETIC else 1)
            work = cost * width * height / 1e6 + has_table * _PROFILE_WORK
            return Header(width, height, work, scans)
    return None
