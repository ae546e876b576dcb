"""Thumbnails: small, upright, made of pixels alone, and as expensive as their size allows."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from paint_core.errors import ImageDecodeError
from paint_core.images.thumbnails import make_thumbnail
from tests.paint_core import tiny
from tests.paint_core.images.test_decoding import HOSTILE

SECRET = b"home address"


def shown(thumbnail: bytes) -> Image.Image:
    with Image.open(io.BytesIO(thumbnail), formats=["WEBP"]) as image:
        image.load()
        return image


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize(("given", "expected"), [((300, 200), (64, 43)), ((40, 30), (40, 30)), ((3, 400), (1, 64))])
def test_a_picture_of_any_format_keeps_its_shape_and_is_never_enlarged(
    file_format: str, given: tuple[int, int], expected: tuple[int, int]
) -> None:
    picture = Image.new("RGB", given, (200, 40, 90))
    small = shown(make_thumbnail(tiny.png(picture, file_format), 64))
    assert (small.size, small.mode) == (expected, "RGB")
    assert np.abs(np.asarray(small, int) - (200, 40, 90)).mean() < 8


def test_nothing_of_the_file_but_its_pixels_is_in_it() -> None:
    exif = Image.Exif()
    exif[270] = SECRET.decode()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = tiny.png(tiny.noise((90, 60)), "JPEG", exif=exif, comment=SECRET, icc_profile=profile)
    assert SECRET in file
    thumbnail = make_thumbnail(file, 64)
    assert SECRET not in thumbnail
    assert not shown(thumbnail).info.keys() & {"exif", "icc_profile", "xmp", "comment"}


def test_it_is_turned_as_the_data_sets_decoder_turns_it() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a right angle
    file = tiny.png(tiny.noise((80, 40)), "JPEG", exif=exif)
    assert shown(make_thumbnail(file, 64)).size == (32, 64)
    assert shown(make_thumbnail(file, 64, decoder=1)).size == (64, 32)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_as_everywhere_else(name: str) -> None:
    make, reason = HOSTILE[name]
    with pytest.raises(ImageDecodeError, match=reason):
        make_thumbnail(make(), 64)


def test_more_pixels_than_allowed_are_refused() -> None:
    with pytest.raises(ImageDecodeError, match="more than 99 pixels"):
        make_thumbnail(tiny.png(tiny.noise((10, 10))), 64, max_pixels=99)
