"""Opening image files that strangers sent: an allow-list of formats, limits on the work, one error for all failures.

A file's size says nothing about the work that decoding it takes: 34 bytes are a WebP of 25 megapixels. The work is
bounded by pixels, by scans (of a JPEG), by the number of reads (of Pillow's own parsers, which go through a file part
by part), and by the size of tiles (of a TIFF), each checked before the work is done.

Kept apart from `preprocess`, and free of torch, so that checking an upload starts in a blink.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from paint_core.errors import ImageDecodeError
from paint_core.images.headers import (
    MOST_PPM_BYTES,
    PPM_HEADER,
    SCAN,
    CheckedFile,
    name_other_format,
    read_header,
    strip_metadata,
)
from paint_core.images.rendering import as_shown, find_transform

ALLOWED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
DEFAULT_MAX_PIXELS = 50_000_000
DECODER = 2
"""What pixels are read from a file: 2, those that a viewer shows (`rendering.py`); 1, as open_clip reads them. Data
sets name theirs, since what was trained and measured with decoder 1 keeps its meaning."""
MAX_ASPECT = 200
"""Longest side over shortest of an image that any model's resize can take in reasonable memory."""

_MAX_SCANS = 100
"""Of a JPEG. Encoders write at most 20; each goes through the whole image again and may take only ten bytes."""

_MAX_SCANNED_PIXELS = 1_000_000_000
"""Pixels times scans of a JPEG: about a second. An encoder's 10 scans are possible up to 100 megapixels."""

_IN_PYTHON = {
    "bmp_rle": (2_000_000, "run-length encoded BMP: save it without compression"),
    "ppm_plain": (500_000, "PPM of text: save it as a binary one"),
}
"""What Pillow decodes in Python, one by one: most pixels, and what to do."""
_TEXT_PPM, _MAX_COMMENTS = (b"P1", b"P2", b"P3"), 100
_DEEP_PPM = re.compile(PPM_HEADER.pattern + rb"(?:\s|#[^\n]*\n)*(\d{1,5})\s")

_MAX_PNG_PROFILES = 4  # one is allowed; others may be pixels that look like one
_MAX_TIFF_VALUES = 250_000
_TIFF_PHOTOMETRIC, _TIFF_WHITE_IS_ZERO = 262, 0
_TIFF_BITS, _TIFF_SIDES, _TIFF_TILE_SIDES = 258, (256, 257), (322, 323)
_TIFF_PLANES, _TIFF_SEPARATE = 284, 2
_TIFF_JPEG = frozenset({"jpeg", "tiff_jpeg"})
_TIFF_PLACES = ((273, 279), (324, 325))
"""Where strips and tiles begin, and how many bytes each has."""

_HEADER_READS = 2_000
"""Reads before the pixels begin; an image straight from a camera takes about 100."""

_LEAST_PART_BYTES = 256
_SPARE_READS = 10_000
_MAX_BANDS, _BYTE_BITS = 4, 8
_DEEPEST = 65_535
_CHUNK = 1 << 20
_WIDE = {"I": "32-bit integers", "F": "floating-point numbers"}


class _Metered(io.BytesIO):
    """A file that may be read only so often, since each read is an iteration of a parser that is written in Python."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads_left = _HEADER_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise ImageDecodeError("too many small parts: save the image again with another program")
        return super().read(size)


@contextmanager
def open_picture(image_bytes: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Iterator[Image.Image]:
    """The image, not yet decoded; every failure inside the context becomes one error.

    Args:
        image_bytes: a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM (PGM, PBM) file.
        max_pixels: limit on width times height; never above Pillow's own limit (about 89 million).

    Raises:
        ImageDecodeError: another format, damaged, truncated, too large, or too expensive to decode.
    """
    try:
        data, metadata, is_plain = _checked(image_bytes, max_pixels)
        with (
            io.BytesIO(data) if is_plain else _Metered(data) as file,
            Image.open(file, formats=ALLOWED_FORMATS) as image,
        ):
            image.info.update(metadata)
            assert isinstance(image, ImageFile.ImageFile)
            _require_bounded(image, data, max_pixels)
            if isinstance(file, _Metered):
                file.reads_left = _SPARE_READS + len(data) // _LEAST_PART_BYTES
            yield image
    except ImageDecodeError:
        raise
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        kind = name_other_format(image_bytes)
        what = f"unsupported format {kind}" if kind else f"not a readable image ({type(error).__name__})"
        raise ImageDecodeError(f"{what}: send a complete {', '.join(ALLOWED_FORMATS)} file") from error


def check_picture(image_bytes: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> bytes:
    """The SHA-256 of the size, pixels and colours that a usable image shows: equal for files that decode alike.

    Raises:
        ImageDecodeError: it cannot be used.
    """
    with open_picture(image_bytes, max_pixels=max_pixels) as image:
        width, height = image.size
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise ImageDecodeError(f"{width} x {height} has an extreme aspect ratio: crop the image")
        shown = as_shown(image)
        digest = hashlib.sha256(f"{shown.width} {shown.height} ".encode())
        digest.update((shown if shown.mode == "RGB" else shown.convert("RGB")).tobytes())
        if find_transform(shown, image.info.get("icc_profile")) is not None:
            digest.update(image.info["icc_profile"])
        return digest.digest()


def as_eight_bits(image: Image.Image) -> Image.Image:
    """The image with eight bits a channel, as decoder 1 defines it; Pillow alone treats everything above 255 as white.

    The higher eight of 16 bits are kept, as Pillow does for colour images.

    Args:
        image: from `open_picture`, not yet decoded.

    Raises:
        ImageDecodeError: the pixel format does not define which number is white.
    """
    if image.mode in _WIDE:
        raise ImageDecodeError(f"pixels that are {_WIDE[image.mode]}: save it with 8 or 16 bits per channel")
    if not image.mode.startswith("I;16"):
        return image
    is_negative = isinstance(image, TiffImageFile) and image.tag_v2.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO
    spare_bits = 4 if isinstance(image, TiffImageFile) and image.tag_v2.get(_TIFF_BITS) == (12,) else 8
    grey = (np.asarray(image) >> spare_bits).astype(np.uint8)
    return Image.fromarray(255 - grey if is_negative else grey)


def _checked(data: bytes, max_pixels: int) -> CheckedFile:
    """The file as Pillow may open it and metadata that it shall not see, unless it is too much work already."""
    header = read_header(data)
    stripped = CheckedFile(data, {}, is_plain=False)
    if header is not None:
        _require_few_pixels(header.width, header.height, max_pixels)
    if data.startswith(b"\xff\xd8"):
        stripped = strip_metadata(data)
        scans = stripped.data.count(SCAN) if header is not None and header.scans > 1 else 1
        if scans > _MAX_SCANS or (header is not None and scans * header.pixels > _MAX_SCANNED_PIXELS):
            raise ImageDecodeError(f"a JPEG with {scans} scans is too expensive to decode: save it as a baseline JPEG")
    elif header is not None and header.num_values > _MAX_TIFF_VALUES:
        raise ImageDecodeError("too many strips: save the image with larger strips")
    elif data.startswith((b"P5", b"P6")):
        stripped = stripped._replace(data=_in_eight_bits(data))
    elif data.startswith(_TEXT_PPM) and data.count(b"#") > _MAX_COMMENTS:
        raise ImageDecodeError("too many comments: save it as a binary PPM")
    elif data.count(b"iCCP") > _MAX_PNG_PROFILES:
        raise ImageDecodeError("several colour profiles: save the image with at most one")
    return stripped


def _in_eight_bits(data: bytes) -> bytes:
    """A PPM or PGM with 8 bits a channel if it has another depth, which Pillow reads in Python, one by one.

    A PGM of 65535 levels stays: Pillow reads it quickly, and many use fewer of them.
    """
    found = _DEEP_PPM.match(data, 0, MOST_PPM_BYTES)
    if found is None or int(found[3]) in (0, 255) or (data.startswith(b"P5") and int(found[3]) == _DEEPEST):
        return data
    width, height, white = (int(number) for number in found.groups())
    num_values = width * height * (3 if data.startswith(b"P6") else 1)
    values = np.frombuffer(data, ">u2" if white > 255 else np.uint8, num_values, found.end())
    levels = np.empty(num_values, np.uint8)
    for start in range(0, num_values, _CHUNK):
        part = slice(start, start + _CHUNK)
        levels[part] = np.rint(values[part] * np.float32(255 / white)).clip(0, 255)
    return b"%b %d %d 255\n" % (data[:2], width, height) + levels.tobytes()


def _require_bounded(image: ImageFile.ImageFile, data: bytes, max_pixels: int) -> None:
    """Refuses an image that is too much work to decode, by the header as Pillow reads it."""
    width, height = image.size
    _require_few_pixels(width, height, max_pixels)
    boxes = [tile.extents for tile in image.tile if tile.extents is not None]
    if sum((right - left) * (lower - upper) for left, upper, right, lower in boxes) > _MAX_BANDS * width * height:
        raise ImageDecodeError("overlapping parts: save the image again with another program")
    codec = image.tile[0].codec_name if image.tile else ""
    most_pixels, advice = _IN_PYTHON.get(codec, (max_pixels, ""))
    if width * height > most_pixels:
        raise ImageDecodeError(f"{width} x {height} is too large for a {advice}")
    if isinstance(image, TiffImageFile):
        _require_plain_parts(image, data, max_pixels)
        image.is_animated = True  # so that it does not parse EXIF directories, which are not used
    else:
        image.decodermaxblock = max(image.decodermaxblock, len(data))  # all at once: it is in memory


def _require_plain_parts(image: TiffImageFile, data: bytes, max_pixels: int) -> None:
    """Refuse a TIFF that Pillow misreads, with tiles far larger than itself, or with JPEGs of several scans."""
    tags = image.tag_v2
    tile = [tags.get(tag) for tag in _TIFF_TILE_SIDES]
    if tags.get(_TIFF_PLANES) == _TIFF_SEPARATE and max(tags.get(_TIFF_BITS, (1,))) > _BYTE_BITS:
        raise ImageDecodeError("separate planes of more than eight bits: save it with interleaved channels")
    if all(isinstance(side, int) and side > 0 for side in tile):
        across, down = (-(-tags[tag] // side) * side for tag, side in zip(_TIFF_SIDES, tile, strict=True))
        _require_few_pixels(across, down, max_pixels)
    if image.info.get("compression") in _TIFF_JPEG:
        places = [zip(tags.get(start, ()), tags.get(size, ()), strict=False) for start, size in _TIFF_PLACES]
        parts = [(start, size) for each in places for start, size in each]
        is_disjoint = sum(size for _, size in parts) <= len(data)
        if not is_disjoint or sum(data.count(SCAN, start, start + size) for start, size in parts) != len(parts):
            raise ImageDecodeError("an unsupported JPEG inside a TIFF: save the image as a JPEG")


def _require_few_pixels(width: int, height: int, max_pixels: int) -> None:
    limit = min(max_pixels, Image.MAX_IMAGE_PIXELS or max_pixels)
    if width * height > limit:
        raise ImageDecodeError(f"{width} x {height} is more than {limit:,} pixels: reduce the size of the image")
