"""Small copies of pictures for people to look at, encoded anew: nothing of the file but its pixels is in them."""

import io

from PIL import Image
from PIL.Image import Resampling

from paint_core.errors import ImageDecodeError
from paint_core.images.decoding import DECODER, DEFAULT_MAX_PIXELS, as_eight_bits, open_picture
from paint_core.images.rendering import as_shown, to_srgb

MEDIA_TYPE = "image/webp"
ENCODER = 1
"""Version of the encoding: another one may give other bytes for the same picture."""

_QUALITY, _EFFORT = 80, 2
_REDUCED = 2
"""Sides that a JPEG decoded at reduced scale keeps, as a multiple of the thumbnail's."""


def make_thumbnail(
    image_bytes: bytes, size: int, *, max_pixels: int = DEFAULT_MAX_PIXELS, decoder: int = DECODER
) -> bytes:
    """A WebP of the picture as the model sees it before it is cropped, without metadata and never enlarged.

    Args:
        image_bytes: a file of an allowed format.
        size: longest side of the result in pixels, at least 1.
        max_pixels: limit on width times height of the file.
        decoder: version of the rules by which pixels are read, as in `Preprocess.decode`.

    Raises:
        ImageDecodeError: the file cannot be read.
    """
    with open_picture(image_bytes, max_pixels=max_pixels) as image:
        image.draft(None, (_REDUCED * size, _REDUCED * size))
        if decoder == DECODER:
            shown = as_shown(image)
            shown.thumbnail((size, size), Resampling.BICUBIC)
            small = to_srgb(shown, image.info.get("icc_profile"))
        else:
            small = as_eight_bits(image).convert("RGB")
            small.thumbnail((size, size), Resampling.BICUBIC)
    return _encode(small)


def _encode(picture: Image.Image) -> bytes:
    picture.info = {}  # Pillow would copy the profile of the file
    file = io.BytesIO()
    try:
        picture.save(file, "WEBP", quality=_QUALITY, method=_EFFORT)
    except (OSError, ValueError) as error:
        raise ImageDecodeError(f"a picture that cannot be shown ({type(error).__name__}): replace the file") from error
    return file.getvalue()
