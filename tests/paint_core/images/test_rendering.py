"""A picture is read as a viewer shows it: upright, on white, in sRGB, its whole range of grey."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from paint_core.errors import ImageDecodeError
from paint_core.images.decoding import check_picture
from paint_core.images.headers import read_header
from paint_core.images.preprocess import Preprocess
from paint_core.images.rendering import as_shown, is_used_profile, read_orientation
from paint_core.starter import anchors_archive, supported_archives
from tests.paint_core import tiny
from tests.paint_core.images import hostile_pictures as hostile
from tests.paint_core.images.color_profiles import profile

SIDE = 32
OURS = Preprocess({"size": SIDE})
EXIF_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")


def smooth(size: tuple[int, int] = (70, 50)) -> Image.Image:
    """A picture of which every corner differs, without noise that a JPEG loses."""
    across, down = np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1])
    channels = np.broadcast_arrays(across, down[:, None], across[::-1] * down[:, None] / 255)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def differ(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """The largest difference of two pictures in grey levels."""
    return int(abs(one.astype(int) - other.astype(int)).max())


def oriented(kind: str, orientation: int, **options: object) -> bytes:
    """A picture that says how it is turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return tiny.png(smooth((450, 300)), kind, exif=exif, **options)


@pytest.mark.parametrize("kind", EXIF_FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_read_upright_whole_and_reduced(kind: str, orientation: int) -> None:
    file = oriented(kind, orientation, **({"quality": 95} if kind == "JPEG" else {}))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB")
    expected = OURS.decode(tiny.png(upright))
    assert differ(OURS.decode(file), expected) == 0
    assert differ(OURS.decode(file, reduced=True), expected) <= 6
    assert check_picture(file) == check_picture(tiny.png(upright))


def test_what_a_png_says_of_its_orientation_behind_the_pixels_counts_too() -> None:
    plain, turned = (tiny.png(smooth(), exif=exif) for exif in (b"", oriented_exif(6)))
    start = turned.index(b"eXIf") - 4
    size = 12 + struct.unpack_from(">I", turned, start)[0]
    last = len(plain) - 12  # IEND
    moved = plain[:last] + turned[start : start + size] + plain[last:]
    assert differ(OURS.decode(moved), OURS.decode(turned)) == 0
    assert differ(OURS.decode(moved), OURS.decode(plain)) > 100


def oriented_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("length", [0, 5, 9, 20, 23])
def test_broken_exif_and_xmp_cost_nothing(length: int) -> None:
    plain = tiny.png(smooth(), "JPEG")
    exif = (b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + bytes(4))[:length]
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta \xff\xfe tiff:Orientation='6"
    for tag in (exif, xmp):
        file = plain[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(tag)) + tag + plain[2:]
        assert differ(OURS.decode(file), OURS.decode(plain)) == 0


@given(st.sampled_from([b"II", b"MM"]), st.binary(max_size=60))
def test_any_exif_tells_an_orientation(order: bytes, rest: bytes) -> None:
    assert read_orientation(order + rest) in range(1, 9)
    assert read_orientation(b"Exif\0\0" + order + b"*\0\x08\0\0\0" + rest) in range(1, 9)


def drawing(size: int, mode: str) -> Image.Image:
    """A black square on transparent ground, whose hidden colour is black, too."""
    alpha = np.zeros((size, size), np.uint8)
    alpha[size // 4 : size // 2, size // 4 : size // 2] = 255
    picture = Image.new("RGB", (size, size))
    picture.putalpha(Image.fromarray(alpha))
    return picture.convert(mode)


@pytest.mark.parametrize("size", [SIDE, SIDE + 1, 2 * SIDE, 2 * SIDE + 1])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_what_is_transparent_is_white_at_every_size(kind: str, size: int) -> None:
    file = tiny.png(drawing(size, "RGBA"), kind, **({"lossless": True} if kind == "WEBP" else {}))
    shown = Image.new("RGB", (size, size), "white")
    shown.paste("black", (size // 4, size // 4, size // 2, size // 2))
    assert differ(OURS.decode(file), OURS.decode(tiny.png(shown))) == 0
    assert check_picture(file) == check_picture(tiny.png(shown))


def logos() -> dict[str, bytes]:
    """The drawing in each way in which a file can be transparent."""
    black = drawing(40, "RGBA")
    palette = black.convert("RGB").quantize(2)
    indexed = Image.fromarray(np.asarray(black.getchannel("A")) // 255)
    indexed.putpalette([255, 0, 255, 0, 0, 0])
    key = Image.new("RGB", (40, 40), (1, 2, 3))
    key.paste("black", (10, 10, 20, 20))
    grey = Image.fromarray(np.where(np.asarray(black.getchannel("A")) == 0, 7, 0).astype(np.uint8))
    deep = Image.fromarray(np.where(np.asarray(black.getchannel("A")) == 0, 70, 0).astype(np.uint16))
    assert palette.mode == indexed.mode == "P"
    return {
        "LA": tiny.png(black.convert("LA")),
        "palette": tiny.png(indexed, transparency=0),
        "GIF": tiny.png(indexed, "GIF", transparency=0),
        "colour key": tiny.png(key, transparency=(1, 2, 3)),
        "grey key": tiny.png(grey, transparency=7),
        "deep grey key": with_chunk(tiny.png(deep), b"tRNS", struct.pack(">H", 70)),
    }


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    return png[:33] + hostile.png_chunk(kind, body) + png[33:]


def test_every_kind_of_transparency_shows_the_same_drawing_on_white() -> None:
    shown = Image.new("RGB", (40, 40), "white")
    shown.paste("black", (10, 10, 20, 20))
    for name, file in logos().items():
        assert differ(OURS.decode(file), OURS.decode(tiny.png(shown))) == 0, name


def test_a_half_transparent_red_is_the_pink_that_a_viewer_shows() -> None:
    pixels = OURS.decode(tiny.png(Image.new("RGBA", (9, 9), (255, 0, 0, 128))))
    assert (abs(pixels.astype(int) - [255, 127, 127]) <= 1).all()


GREY = np.add.outer(np.arange(64), 3 * np.arange(64)).astype(np.uint16)  # 0 to 252
SCALED: dict[str, Callable[[], NDArray[np.generic]]] = {
    "16 bits": lambda: (GREY * 257).astype(np.uint16),
    "12 of 16 bits, as from an X-ray": lambda: (GREY * 16 + 8).astype(np.uint16),
    "10 of 16 bits": lambda: (GREY * 4).astype(np.uint16),
    "16 bits, big-endian": lambda: (GREY * 257).astype(">u2"),
    "32-bit integers": lambda: GREY.astype(np.int32) * 257,
    "signed numbers, as of a tomograph": lambda: (GREY.astype(np.int32) * 16 - 1024) * 1,
    "0 to 1": lambda: (GREY / 255).astype(np.float32),
    "0 to 255": lambda: GREY.astype(np.float32),
    "0 to 65535": lambda: (GREY * 257.0).astype(np.float32),
    "large numbers": lambda: (GREY * 1e30).astype(np.float32),
}


@pytest.mark.parametrize("name", SCALED)
def test_grey_numbers_of_any_range_become_all_grey_levels(name: str) -> None:
    picture = Image.fromarray(SCALED[name]())
    expected = OURS.decode(tiny.png(Image.fromarray(GREY.astype(np.uint8))))
    assert differ(OURS.decode(tiny.png(picture, "TIFF")), expected) <= 5
    assert len({check_picture(tiny.png(each, "TIFF")) for each in (picture, picture.rotate(90))}) == 2


def test_numbers_that_are_none_are_black_and_a_picture_of_them_alone_is_refused() -> None:
    some = np.ones((40, 40), np.float32)
    some[:20] = np.nan
    assert OURS.decode(tiny.png(Image.fromarray(some), "TIFF"))[0].max() == 0
    with pytest.raises(ImageDecodeError, match="8 or 16 bits"):
        check_picture(tiny.png(Image.fromarray(some[:20]), "TIFF"))


def test_a_palette_is_resized_by_its_colours() -> None:
    picture = smooth((301, 300)).quantize(256)
    assert differ(OURS.decode(tiny.png(picture, "GIF")), OURS.decode(tiny.png(picture.convert("RGB")))) == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_colours_of_a_profile_become_those_of_srgb(kind: str) -> None:
    picture = Image.new("RGB", (300, 200), (200, 30, 60))
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    file = tiny.png(picture, kind, icc_profile=profile(), **options)
    for reduced in (False, True):
        shown = OURS.decode(file, reduced=reduced)[16, 16].astype(int)
        assert abs(shown - [30, 200, 60]).max() <= 8, "red and green are exchanged"


BROKEN = (bytes(200), profile()[:300], profile("sRGB"), profile().replace(b"para", b"xxxx"))


@pytest.mark.parametrize("broken", BROKEN, ids=["zeros", "cut", "sRGB", "unknown curves"])
def test_a_broken_profile_and_that_of_srgb_change_nothing(broken: bytes) -> None:
    picture = smooth()
    file = tiny.png(picture, "PNG", icc_profile=broken)
    assert differ(OURS.decode(file), OURS.decode(tiny.png(picture))) == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_profile_of_tables_counts_as_work_before_anything_is_decoded(kind: str) -> None:
    plain, tables = (read_header(tiny.png(smooth(), kind, **told)) for told in ({}, {"icc_profile": b"A2B0" * 9}))
    assert plain is not None
    assert tables is not None
    assert tables.work == pytest.approx(plain.work + 2.5)


def test_a_profile_that_is_a_program_of_any_length_is_not_run() -> None:
    data = profile()
    assert is_used_profile(data)
    assert not is_used_profile(data.replace(b"XYZ ", b"mpet"))
    assert not is_used_profile(data[:128] + struct.pack(">L", 101) + data[132:])
    assert not is_used_profile(data[:12] + b"link" + data[16:])
    assert not is_used_profile(data + bytes(4 << 20))


@given(st.binary(max_size=40), st.integers(0, 3000))
def test_any_damage_to_a_profile_leaves_a_picture(junk: bytes, place: int) -> None:
    damaged = profile()[:place] + junk + profile()[place + len(junk) :]
    image = smooth((8, 8))
    image.info["icc_profile"] = damaged
    assert as_shown(image).size == (8, 8)


def bundled() -> list[Path]:
    """The archives that come with the starter."""
    return [anchors_archive(), *supported_archives().values()]


@pytest.mark.parametrize("path", bundled(), ids=lambda path: path.stem)
def test_the_starter_sees_its_bundled_pictures_as_before(path: Path) -> None:
    starters = Preprocess({"size": 64})
    with ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        for name in names[:: max(1, len(names) // 40)]:
            file = archive.read(name)
            assert differ(starters.decode(file), starters.decode(file, decoder=1)) == 0
