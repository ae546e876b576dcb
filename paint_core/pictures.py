"""Opening picture files that strangers sent: an allow-list of formats, a limit on pixels, one error for all failures.

Kept apart from `preprocess`, and free of torch, so that checking an upload starts in a blink.
"""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from paint_core.errors import ImageDecodeError

ALLOWED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
DEFAULT_MAX_PIXELS = 50_000_000
MAX_ASPECT = 200
"""Longest side over shortest of a picture that any model's resize can take in reasonable memory."""


@contextmanager
def open_picture(image_bytes: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Iterator[Image.Image]:
    """The picture, still to be decoded; whatever goes wrong with it inside the context becomes one error.

    Args:
        image_bytes: a JPEG, PNG, WebP, GIF, BMP or TIFF file.
        max_pixels: limit on width times height; never above Pillow's own limit (about 89 million).

    Yields:
        Image.Image: the opened picture, at its first frame.

    Raises:
        ImageDecodeError: not such a file, damaged, truncated or too large.
    """
    try:
        with Image.open(io.BytesIO(image_bytes), formats=ALLOWED_FORMATS) as image:
            image.decodermaxblock = max(image.decodermaxblock, len(image_bytes))  # all at once: it is in memory
            width, height = image.size
            if width * height > min(max_pixels, Image.MAX_IMAGE_PIXELS or max_pixels):
                raise ImageDecodeError(f"{width} x {height} is over {max_pixels:,} pixels: shrink the picture")
            yield image
    except ImageDecodeError:
        raise
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise ImageDecodeError(
            f"not a readable picture ({type(error).__name__}): send a whole {', '.join(ALLOWED_FORMATS)} file"
        ) from error


def check_picture(image_bytes: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> bytes:
    """The SHA-256 of what the whole picture shows, its size and RGB pixels, once it is known that it can be used.

    Args:
        image_bytes: a picture file.
        max_pixels: limit on width times height.

    Returns:
        32 bytes, equal for files that decode to the same picture.

    Raises:
        ImageDecodeError: it cannot be used.
    """
    with open_picture(image_bytes, max_pixels=max_pixels) as image:
        width, height = image.size
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise ImageDecodeError(f"{width} x {height} is too long and thin: crop the picture")
        digest = hashlib.sha256(f"{width} {height} ".encode())
        digest.update(image.convert("RGB").tobytes())
        return digest.digest()
