"""Images for requests: from paths, bytes, PIL images and NumPy arrays to encoded files.

Neither PIL nor NumPy is imported: callers that have such images have imported them.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from paintbox_client.errors import InputError

Image = Any
"""The path of an image file (`str` or `Path`), its bytes, a PIL image, or a NumPy array [H, W], [H, W, 1, 3 or 4]."""

BATCH_IMAGES, BATCH_BYTES = 64, 32 << 20
_ADVICE = "Give the path of an image file, its bytes, a PIL image or a NumPy array of dtype uint8."
_PNG_MODES = frozenset({"1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"})
_COLOR_TYPES = {1: 0, 3: 2, 4: 6}  # PNG's, by number of channels
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:")
_PLANE, _WITH_CHANNELS, _MANY = 2, 3, 4  # dimensions of an array


def is_one_image(images: object) -> bool:
    """Return whether this is one image, not several of them."""
    if isinstance(images, str | bytes | bytearray | memoryview | os.PathLike) or _is_pil(images):
        return True
    interface = getattr(images, "__array_interface__", None)
    return interface is not None and len(interface["shape"]) < _MANY


def batches(images: Iterable[Image] | Image, limit: int = BATCH_IMAGES) -> Iterator[list[tuple[str, bytes]]]:
    """Yield non-empty batches of images, names and bytes, which are read as they are needed.

    Raises:
        InputError: There is no image, or one cannot be sent.
    """
    batch: list[tuple[str, bytes]] = []
    num_bytes = 0
    for index, image in enumerate([images] if is_one_image(images) else images):
        name, content = read_image(index, image)
        if batch and (len(batch) == limit or num_bytes + len(content) > BATCH_BYTES):
            yield batch
            batch, num_bytes = [], 0
        batch.append((name, content))
        num_bytes += len(content)
    if not batch:
        raise InputError("No image was given.", _ADVICE)
    yield batch


def read_image(index: int, image: Image) -> tuple[str, bytes]:
    """Return a name and the bytes of an image; its index names an image without a file name.

    Raises:
        InputError: Its type is not one of `Image`, or the file cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        return _read_file(image)
    name = f"image-{index}"
    if isinstance(image, bytes | bytearray | memoryview):
        return name, bytes(image)
    if _is_pil(image):
        return name, _encode_pil(image)
    if hasattr(image, "__array_interface__"):
        return name, _encode_array(index, image)
    raise InputError(f"Image {index} has the unsupported type {type(image).__name__}.", _ADVICE)


def _read_file(image: str | os.PathLike[str]) -> tuple[str, bytes]:
    if isinstance(image, str) and _URL.match(image):
        raise InputError(f"The image {image[:200]!r} is a URL; URLs are not read.", "Download it, and give its bytes.")
    path = Path(image)
    try:
        return path.name, path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"The image {str(image)[:200]!r} cannot be read: {reason}.", _ADVICE) from error


def _is_pil(image: object) -> bool:
    return any(f"{kind.__module__}.{kind.__name__}" == "PIL.Image.Image" for kind in type(image).__mro__)


def _encode_pil(image: Any) -> bytes:
    """Return a PNG with the picture's orientation and colour profile, as its file had them."""
    shown = image if image.mode in _PNG_MODES else image.convert("RGB")
    buffer = io.BytesIO()
    shown.save(buffer, "PNG", exif=image.getexif(), compress_level=1)
    return buffer.getvalue()


def _encode_array(index: int, array: Any) -> bytes:
    """Return a PNG of an array of bytes."""
    shape = array.__array_interface__["shape"]
    channels = 1 if len(shape) == _PLANE else shape[2] if len(shape) == _WITH_CHANNELS else 0
    if array.__array_interface__["typestr"][1:] != "u1" or channels not in _COLOR_TYPES or 0 in shape:
        advice = "Give [height, width] or [height, width, channels] with 1, 3 or 4 channels and dtype uint8, 0 to 255."
        raise InputError(f"Image {index} is an array of shape {tuple(shape)} and type {array.dtype}.", advice)
    height, width = shape[:2]
    content, row = array.tobytes(), width * channels
    rows = chain.from_iterable((b"\0", content[at : at + row]) for at in range(0, height * row, row))
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
