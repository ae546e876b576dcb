"""An image as a viewer shows it: upright, in sRGB, eight bits a channel, what is transparent on white.

What a file's numbers mean is decided here and nowhere else: before anything is resized, but for the colours of a
profile, which are converted in the small square that a model reads. Metadata is read in bounded steps, and broken
metadata counts as none: an image is worth more than its tags.
"""

import io
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.Image import Transpose
from PIL.TiffImagePlugin import TiffImageFile

from paint_core.errors import ImageDecodeError

_ORIENTATION, _MAX_EXIF_ENTRIES = 274, 1000
_EXIF_NUMBERS = {1: "B", 3: "H", 4: "L"}
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}

_SPACES = {"RGB": b"RGB ", "L": b"GRAY", "CMYK": b"CMYK"}
_PROFILE_CLASSES = frozenset({b"scnr", b"mntr", b"prtr", b"spac"})
_PROFILE_HEADER_BYTES, _MAX_PROFILE_TAGS, _MAX_PROFILE_BYTES = 128, 100, 4 << 20
_UNBOUNDED = b"mpet"
"""Type of a tag that holds any number of steps to calculate; the other types have a fixed number of them."""
_SAME_LEVELS = 2
"""Grey levels by which a profile's colours may differ from sRGB without being converted; all profiles of sRGB do."""

_WHITES = (255, 1023, 4095, 16_383, 65_535)
"""Largest numbers of the depths that cameras and scanners use."""
_TIFF_PHOTOMETRIC, _TIFF_WHITE_IS_ZERO, _TIFF_BITS = 262, 0, 258
_STRIP_PIXELS = 1_000_000


def as_shown(image: Image.Image) -> Image.Image:
    """The image as a viewer shows it, in eight bits a channel without palette or alpha, not yet in sRGB."""
    image.load()
    flat = _flatten(image)
    turn = _UPRIGHT.get(orientation_of(image))
    return flat if turn is None else flat.transpose(turn)


def orientation_of(image: Image.Image) -> int:
    """How the image is turned when shown, 1 to 8 as EXIF numbers it; Pillow has turned a TIFF already."""
    exif = image.info.get("exif")
    return read_orientation(exif) if isinstance(exif, bytes) else 1


def read_orientation(exif: bytes) -> int:
    """The orientation in EXIF data, 1 to 8; 1 if the data is broken or states none."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "L", tiff, 4)
        (num_entries,) = struct.unpack_from(order + "H", tiff, start)
        for place in range(start + 2, start + 2 + 12 * min(num_entries, _MAX_EXIF_ENTRIES), 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, place)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(order + _EXIF_NUMBERS.get(kind, "H"), tiff, place + 8)
                return value if value in _UPRIGHT else 1
    except struct.error:
        pass
    return 1


def to_srgb(picture: Image.Image, profile: object) -> Image.Image:
    """What `as_shown` gave, or a part of it, in RGB, its colours converted from those of the file's profile to sRGB."""
    transform = find_transform(picture, profile)
    if transform is not None:
        return transform.apply(picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def find_transform(picture: Image.Image, profile: object) -> ImageCms.ImageCmsTransform | None:
    """What converts an image's colours to sRGB; None if its profile is sRGB's, does not fit it or is not used."""
    if not isinstance(profile, bytes) or profile[16:20] != _SPACES.get(picture.mode) or not is_used_profile(profile):
        return None
    return _transform(profile, picture.mode)


def is_used_profile(profile: bytes) -> bool:
    """Whether colours may be converted by this profile: a whole, plain one, which takes bounded work to read."""
    if not _PROFILE_HEADER_BYTES + 4 < len(profile) <= _MAX_PROFILE_BYTES or profile[36:40] != b"acsp":
        return False
    if profile[12:16] not in _PROFILE_CLASSES or profile[16:20] not in _SPACES.values():
        return False
    (num_tags,) = struct.unpack_from(">L", profile, _PROFILE_HEADER_BYTES)
    if num_tags > _MAX_PROFILE_TAGS or _PROFILE_HEADER_BYTES + 4 + 12 * num_tags > len(profile):
        return False
    places = (_PROFILE_HEADER_BYTES + 8 + 12 * index for index in range(num_tags))
    starts = [struct.unpack_from(">L", profile, place)[0] for place in places]
    return all(profile[start : start + 4] != _UNBOUNDED for start in starts)


def _flatten(image: Image.Image) -> Image.Image:
    """The image with eight bits a channel, without palette and alpha."""
    if image.mode in _SPACES and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return _scale(image)
    if image.has_transparency_data:
        return _on_white(image if image.mode == "RGBA" else image.convert("RGBA"))
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGB") if image.mode in ("P", "RGBX") else image


def _on_white(image: Image.Image) -> Image.Image:
    alpha = image.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return image.convert("RGB")
    shown = Image.new("RGB", image.size, "white")
    shown.paste(image, mask=alpha)
    return shown


def _scale(image: Image.Image) -> Image.Image:
    """The image of more than eight bits in grey levels.

    White is the largest number of the smallest usual depth that holds the image (of floating-point numbers, first 1);
    where numbers are negative or larger than any, the image's own range counts.
    """
    black, white = _range(image)
    grey = np.empty((image.height, image.width), np.uint8)
    for top, strip in _strips(image):
        levels = np.nan_to_num(strip.astype(np.float32), nan=black, posinf=white, neginf=black)
        levels = (levels - black) * (255 / (white - black))
        grey[top : top + len(strip)] = np.rint(levels).clip(0, 255)
        if isinstance(image.info.get("transparency"), int):
            grey[top : top + len(strip)][strip == image.info["transparency"]] = 255
    return Image.fromarray(255 - grey if _is_negative(image) else grey)


def _range(image: Image.Image) -> tuple[float, float]:
    """The numbers that are black and white."""
    if _is_negative(image):  # its numbers are counted down from the largest of its depth
        return 0, 4095 if image.tag_v2.get(_TIFF_BITS) == (12,) else 65_535  # type: ignore[attr-defined]
    found = [strip[np.isfinite(strip)] for _, strip in _strips(image)]
    ends = [(float(each.min()), float(each.max())) for each in found if each.size]
    if not ends:
        raise ImageDecodeError("pixels that are NaN: save it with 8 or 16 bits per channel")
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    whites = (1, *_WHITES) if image.mode == "F" else _WHITES
    if low >= 0 and high <= whites[-1]:
        return 0, next(white for white in whites if high <= white)
    return (low, high) if low < high else (low - 1, high)


def _is_negative(image: Image.Image) -> bool:
    is_deep = isinstance(image, TiffImageFile) and image.mode.startswith("I;16")
    return is_deep and image.tag_v2.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO  # type: ignore[attr-defined]


def _strips(image: Image.Image) -> Iterator[tuple[int, NDArray[Any]]]:
    """The image's numbers, so many rows at a time that they take little memory, and where each strip begins."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What converts colours of a profile to sRGB; None if they are those of sRGB, or the profile is broken."""
    try:
        source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        transform = ImageCms.ImageCmsTransform(source, ImageCms.ImageCmsProfile(target), mode, "RGB")
    except (ImportError, OSError, ValueError):
        return None
    sample = _sample(mode)
    change = np.asarray(transform.apply(sample), np.int16) - np.asarray(sample.convert("RGB"), np.int16)
    return transform if np.abs(change).max() > _SAME_LEVELS else None


def _sample(mode: str) -> Image.Image:
    """Colours from all of a mode's range."""
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    num_channels = Image.getmodebands(mode)
    grid = np.stack(np.meshgrid(*[levels] * num_channels), axis=-1).reshape(1, -1, num_channels)
    return Image.frombytes(mode, (grid.shape[1], 1), np.ascontiguousarray(grid).tobytes())
