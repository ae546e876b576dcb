"""The cost of a picture is bounded before it is decoded, and more than eight bits are read as what they are."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from paint_core.errors import ImageDecodeError
from paint_core.images.decoding import ALLOWED_FORMATS, check_picture, open_picture
from paint_core.images.headers import read_header, strip_metadata
from paint_core.images.preprocess import Preprocess
from tests.paint_core import tiny
from tests.paint_core.images import hostile_pictures as hostile

PLAIN = Preprocess({"size": 32})
PARTS, STRIPS, JPEG = "too many small parts", "too many strips", "an unsupported JPEG"
EXIF_OF_ONE_BYTE = b"\xff\xe1\0\x09Exif\0\0a"
PROFILE = hostile.png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 20)))

HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "scans": (lambda: hostile.jpeg_of_scans(100), "JPEG with 10[0-9] scans"),
    "scans of a large picture": (lambda: hostile.jpeg_of_scans(40, 5000), "JPEG with 4[0-9] scans"),
    "segments": (lambda: hostile.jpeg_of_segments(b"\xff\xfe\0\2", 5_000), PARTS),
    "metadata": (lambda: hostile.jpeg_of_segments(EXIF_OF_ONE_BYTE, 5_000), PARTS),
    "fill bytes": (lambda: hostile.jpeg_of_segments(b"\xff", 50_000), PARTS),
    "chunks": (lambda: hostile.png_of_chunks(hostile.png_chunk(b"abCd", b"") * 5_000), PARTS),
    "empty chunks of pixels": (lambda: hostile.png_of_chunks(b"", hostile.png_chunk(b"IDAT", b"") * 20_000), PARTS),
    "colour profiles": (lambda: hostile.png_of_chunks(PROFILE * 20), "several colour profiles"),
    "comments": (lambda: hostile.gif_of_blocks(5_000), PARTS),
    "runs": (lambda: hostile.bmp_of_runs(2_000, 1_100), "run-length"),
    "a PPM of text": (lambda: b"P2 # a comment\n800 700 255\n" + b"0 " * 9, "800 x 700 is too large for a PPM of text"),
    "comments of a PPM": (lambda: b"P2 8 8 255\n" + b"#\n" * 500_000, "too many comments"),
    "a large PPM of 16 bits": (
        lambda: b"P6 9000 9000 65535\n" + bytes(99),
        "9000 x 9000 is more than 50,000,000 pixels",
    ),
    "a short PPM of 16 bits": (lambda: b"P6 900 900 65535\n" + bytes(99), "not a readable image"),
    "a large PPM": (lambda: b"P5\n9000 9000\n255\n", "9000 x 9000 is more than 50,000,000 pixels"),
    "strips": (lambda: hostile.tiff_of_strips(130_000), STRIPS),
    "overlapping strips": (lambda: hostile.tiff_of_overlapping_strips(100, 64), "overlapping parts"),
    "a huge tile": (lambda: hostile.tiff_of_a_huge_tile(8_000), "more than 50,000,000 pixels"),
    "scans in a TIFF": (lambda: hostile.tiff_of_a_jpeg(hostile.jpeg_of_scans(20), 256), JPEG),
    "numbers": (lambda: hostile.tiff_of_rationals(300_000), STRIPS),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_small_file_that_takes_long_to_decode_is_refused_with_the_reason(name: str) -> None:
    make, reason = HOSTILE[name]
    file = make()
    for refuse in (check_picture, PLAIN.decode):
        with pytest.raises(ImageDecodeError, match=reason):
            refuse(file)


def test_scans_of_a_preview_are_not_counted_and_a_progressive_jpeg_is_read_as_ever() -> None:
    picture = tiny.noise((70, 50))
    file = tiny.png(picture, "JPEG", progressive=True)
    preview = b"\xff\xe1" + struct.pack(">H", 2 + 400) + b"\xff\xda" * 200
    expected = np.array(PLAIN._to_square(Image.open(io.BytesIO(file))))
    assert (PLAIN.decode(file) == expected).all()
    assert (PLAIN.decode(file[:2] + preview + file[2:]) == expected).all()


def test_directories_of_metadata_are_not_read() -> None:
    PLAIN.decode(hostile.tiff_with_exif(200_000))
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    file = tiny.png(tiny.noise((9, 9)), "JPEG", exif=exif, icc_profile=bytes(100), comment=b"hello")
    with open_picture(file) as picture:
        assert picture.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "exif", "icc_profile"}
    assert len(strip_metadata(file).data) < len(file) - 150


@given(st.binary(max_size=300), st.integers(0, 300))
def test_a_jpeg_that_is_cut_or_changed_is_a_jpeg_without_metadata_or_left_alone(junk: bytes, place: int) -> None:
    file = tiny.png(tiny.noise((20, 20)), "JPEG", comment=b"hello")
    changed = file[:2] + junk + file[min(place, len(file)) :]
    found, metadata, _ = strip_metadata(changed)
    assert len(found) + sum(map(len, metadata.values())) <= len(changed)
    read_header(changed)


@given(
    st.sampled_from(ALLOWED_FORMATS),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.booleans(),
    st.sampled_from([b"", b"II", b"MM"]),
)
def test_the_header_tells_the_size_without_a_decoder(
    kind: str, size: tuple[int, int], is_progressive: bool, start: bytes
) -> None:
    options = {"progressive": True} if kind == "JPEG" and is_progressive else {}
    options |= {"lossless": True} if kind == "WEBP" and is_progressive else {}
    file = tiny.png(tiny.noise(size, "P" if kind == "GIF" else "RGB"), kind, **options)
    header = read_header(file)
    assert header is not None
    assert (header.width, header.height) == size
    assert header.work <= 0.5 * size[0] * size[1] / 1e6 or kind != "JPEG"
    read_header(start + file)


def test_a_big_tiff_and_one_of_the_other_byte_order_tell_their_size() -> None:
    for options in ({"big_tiff": True}, {}):
        buffer = io.BytesIO()
        Image.new("I;16B" if not options else "L", (12, 34)).save(buffer, "TIFF", **options)
        header = read_header(buffer.getvalue())
        assert header is not None
        assert (header.width, header.height) == (12, 34)


GREY = np.add.outer(np.arange(64), 2 * np.arange(64)).astype(np.uint8)
DEEP = GREY.astype(np.uint16) * 256 + 100


def grey_tiff(pixels: bytes, photometric: int = 1, bits: int = 16, *, is_packed: bool = False) -> bytes:
    """A TIFF of 64 x 64 grey pixels."""
    body = zlib.compress(pixels) if is_packed else pixels
    entries = [(256, 64), (257, 64), (258, bits), (259, 8 if is_packed else 1), (262, photometric), (277, 1), (278, 64)]
    places = (hostile.long(273, 8), hostile.long(279, len(body)))
    return hostile.tiff((*(hostile.short(*entry) for entry in entries), *places), body)


def twelve_bits(grey: NDArray[np.uint8]) -> bytes:
    """Two pixels in three bytes."""
    pairs = (grey.astype(int) * 16 + 7).reshape(-1, 2)
    parts = (pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255)
    return np.stack(parts, axis=1).astype(np.uint8).tobytes()


def deep_png(colour_type: int, *channels: NDArray[np.uint16]) -> bytes:
    """A PNG of 16 bits a channel."""
    rows = np.stack(channels, axis=2).astype(">u2")
    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], 16, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(hostile.png_chunk(*chunk) for chunk in chunks)


OPAQUE = np.full_like(DEEP, 65_535)
SAME_PICTURE = {
    "a grey PNG": deep_png(0, DEEP),
    "a grey PNG with alpha": deep_png(4, DEEP, OPAQUE),
    "a colour PNG": deep_png(2, DEEP, DEEP, DEEP),
    "a colour PNG with alpha": deep_png(6, DEEP, DEEP, DEEP, OPAQUE),
    "a TIFF": grey_tiff(DEEP.astype("<u2").tobytes()),
    "a packed TIFF": grey_tiff(DEEP.astype("<u2").tobytes(), is_packed=True),
    "a TIFF of big-endian numbers": tiny.png(Image.fromarray(DEEP.astype(">u2")), "TIFF"),
    "a negative": grey_tiff((65_535 - DEEP).astype("<u2").tobytes(), photometric=0),
    "a packed negative": grey_tiff((65_535 - DEEP).astype("<u2").tobytes(), photometric=0, is_packed=True),
    "twelve bits": grey_tiff(twelve_bits(GREY), bits=12),
}


@pytest.mark.parametrize("name", SAME_PICTURE)
def test_the_same_picture_with_more_bits_is_the_same_picture_within_rounding(name: str) -> None:
    expected = PLAIN.decode(tiny.png(Image.fromarray(GREY))).astype(int)
    for reduced in (False, True):
        assert abs(PLAIN.decode(SAME_PICTURE[name], reduced=reduced) - expected).max() <= 1


def test_the_same_picture_with_more_bits_is_a_duplicate() -> None:
    exact = tiny.png(Image.fromarray(GREY.astype(np.uint16) * 257))
    assert check_picture(exact) == check_picture(tiny.png(Image.fromarray(GREY)))


OTHERS = {
    b"\0\0\0\x18ftypheic\0\0\0\0mif1heic": "HEIC",
    b"\0\0\0\x1cftypavif\0\0\0\0avifmif1": "AVIF",
    b"\0\0\0\x18ftypisom\0\0\2\0": "a video",
    b"\xff\x0a\xfa\x7f\x01": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b" \n<svg xmlns='http://www.w3.org/2000/svg'/>": "SVG",
    bytes(128) + b"DICM": "DICOM",
    b"<!DOCTYPE html>": "a web page",
}


@pytest.mark.parametrize("data", OTHERS, ids=OTHERS.values())
def test_a_picture_of_another_format_is_refused_by_its_name(data: bytes) -> None:
    for refuse in (check_picture, PLAIN.decode):
        with pytest.raises(ImageDecodeError, match=f"^unsupported format {OTHERS[data]}: send a complete JPEG"):
            refuse(data + bytes(100))


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "I;16"])
def test_a_portable_pixmap_is_read_and_tells_its_size(mode: str) -> None:
    picture = tiny.noise((40, 30), "L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    header = read_header(tiny.png(picture, "PPM"))
    assert header is not None
    assert (header.width, header.height) == (40, 30)
    assert check_picture(tiny.png(picture, "PPM")) == check_picture(tiny.png(picture, "TIFF"))


@pytest.mark.parametrize("white", [1, 15, 255, 1023, 4095, 65_535])
@pytest.mark.parametrize("magic", [b"P5", b"P6"])
def test_a_portable_pixmap_of_any_depth_has_its_own_white(magic: bytes, white: int) -> None:
    values = np.linspace(0, white, 32 * 32 * (3 if magic == b"P6" else 1))
    body = values.round().astype(">u2" if white > 255 else np.uint8)
    file = magic + b"\n# a comment\n32 32\n%d\n" % white + body.tobytes()
    expected = (body.astype(float) * 255 / white).reshape(32, 32, -1)
    assert abs(PLAIN.decode(file) - expected).max() <= 1


@pytest.mark.parametrize("file_format", ALLOWED_FORMATS)
def test_a_picture_of_any_format_that_is_too_large_is_refused_with_its_size(file_format: str) -> None:
    file = tiny.png(Image.new("L", (300, 200)), file_format)
    for refuse in (check_picture, PLAIN.decode):
        with pytest.raises(ImageDecodeError, match=r"300 x 200 is more than 50,000 pixels"):
            refuse(file, max_pixels=50_000)


def test_separate_planes_of_16_bits_which_pillow_misreads_are_refused() -> None:
    body = DEEP.astype("<u2").tobytes() * 3
    offsets, counts = [8 + len(body) // 3 * plane for plane in range(3)], [len(body) // 3] * 3
    entries = [(256, 64), (257, 64), (258, 16, 16, 16), (259, 1), (262, 2), (277, 3), (278, 64), (284, 2)]
    places = (hostile.long(273, *offsets), hostile.long(279, *counts))
    with pytest.raises(ImageDecodeError, match="planes"):
        PLAIN.decode(hostile.tiff((*(hostile.short(*entry) for entry in entries), *places), body))


def segment_at(file: bytes, marker: int) -> int:
    return file.index(bytes([0xFF, marker]))


def test_fill_bytes_before_a_segment_change_nothing() -> None:
    file = tiny.png(tiny.noise((70, 50)), "JPEG", comment=b"hello")
    frame = segment_at(file, 0xC0)
    filled = file[:frame] + b"\xff\xff\xff" + file[frame:]
    assert read_header(filled) == read_header(file)
    assert (PLAIN.decode(filled) == PLAIN.decode(file)).all()
    assert strip_metadata(file).is_plain
    assert not strip_metadata(filled).is_plain


def test_an_arithmetic_coded_jpeg_counts_as_twice_the_work() -> None:
    file = tiny.png(tiny.noise((70, 50)), "JPEG")
    frame = segment_at(file, 0xC0)
    usual, arithmetic = read_header(file), read_header(file[: frame + 1] + b"\xc9" + file[frame + 2 :])
    assert usual is not None
    assert arithmetic is not None
    assert arithmetic.work == 2 * usual.work > 0


def test_a_bitmap_of_os_2_tells_its_size() -> None:
    width, height = 300, 2
    pixels = bytes(4 * ((3 * width + 3) // 4) * height)
    head = struct.pack("<IHHHH", 12, width, height, 1, 24)
    file = b"BM" + struct.pack("<IHHI", 14 + len(head) + len(pixels), 0, 0, 14 + len(head)) + head + pixels
    assert Image.open(io.BytesIO(file)).size == (width, height)
    header = read_header(file)
    assert header is not None
    assert (header.width, header.height) == (width, height)
