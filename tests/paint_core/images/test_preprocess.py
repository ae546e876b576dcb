import importlib.resources
import io
import pickle
import struct
import zlib

import open_clip
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from paint_core.errors import ImageDecodeError, ModelRefError
from paint_core.images.decoding import ALLOWED_FORMATS, check_picture
from paint_core.images.preprocess import Preprocess
from paint_core.models import load_base
from tests.paint_core import tiny

CONFIG = {"size": 32, "mean": (0.48, 0.45, 0.40), "std": (0.26, 0.26, 0.27)}


def both(file: bytes, **config: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Our two halves, and open_clip's whole."""
    ours = Preprocess({**CONFIG, **config})
    pixels = torch.from_numpy(ours.decode(file, decoder=1)).unsqueeze(0)
    whole = image_transform_v2(PreprocessCfg(**{**CONFIG, **config}), is_train=False)
    return ours.normalise(pixels)[0], whole(Image.open(io.BytesIO(file)))


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    mode=st.sampled_from(["RGB", "L", "RGBA", "LA", "P", "1", "CMYK"]),
    resize_mode=st.sampled_from(["shortest", "longest", "squash"]),
)
def test_decoder_1_and_the_other_half_equal_open_clips_transform(
    size: tuple[int, int], mode: str, resize_mode: str
) -> None:
    assume(resize_mode != "longest" or max(size) < 64 * min(size))  # of a thinner one open_clip leaves nothing
    ours, theirs = both(tiny.png(tiny.noise(size, mode), "TIFF"), resize_mode=resize_mode)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 64), (90, 1)])
def test_a_picture_of_which_nothing_would_be_left_is_refused_with_the_reason(size: tuple[int, int]) -> None:
    with pytest.raises(ImageDecodeError, match="extreme aspect ratio"):
        Preprocess({**CONFIG, "resize_mode": "longest"}).decode(tiny.png(tiny.noise(size)))


@pytest.mark.parametrize("file_format", ALLOWED_FORMATS)
def test_every_allowed_format_is_read_like_open_clip(file_format: str) -> None:
    mode = "P" if file_format == "GIF" else "RGB"
    file = tiny.png(tiny.noise((41, 57), mode), file_format)
    ours, theirs = both(file)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    if mode == "RGB":
        assert (Preprocess(CONFIG).decode(file) == Preprocess(CONFIG).decode(file, decoder=1)).all()


def test_decoder_1_does_not_apply_the_exif_orientation_like_open_clip() -> None:
    picture = tiny.noise((40, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tiny.png(picture, "JPEG", exif=exif)
    assert (Preprocess(CONFIG).decode(file, decoder=1) == Preprocess(CONFIG).decode(tiny.png(picture, "JPEG"))).all()


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [tiny.noise((40, 40), "P", seed) for seed in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    ours = Preprocess(CONFIG)
    assert (ours.decode(buffer.getvalue()) == ours.decode(tiny.png(frames[0], "GIF"))).all()


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(8000, 7000), (10_000, 10_000), (20_000, 20_000), (1, 90_000_000)])
def test_a_picture_that_would_fill_the_memory_is_refused_with_its_size_before_it_is_decoded(
    size: tuple[int, int],
) -> None:
    with pytest.raises(ImageDecodeError, match=f"{size[0]} x {size[1]} is more than 50,000,000 pixels"):
        Preprocess(CONFIG).decode(bomb(*size))


def test_the_pixel_limit_is_the_callers() -> None:
    file = tiny.png(tiny.noise((100, 100)))
    Preprocess(CONFIG).decode(file, max_pixels=10_000)
    with pytest.raises(ImageDecodeError, match="reduce the size"):
        Preprocess(CONFIG).decode(file, max_pixels=9_999)


def test_a_truncated_picture_is_refused() -> None:
    file = tiny.png(tiny.noise((60, 60)), "JPEG")
    check_picture(file)
    for refuse in (check_picture, Preprocess(CONFIG).decode):
        with pytest.raises(ImageDecodeError):
            refuse(file[: len(file) // 2])


def test_a_picture_that_passes_the_check_at_ingest_can_be_decoded() -> None:
    strip = tiny.png(tiny.noise((200, 1)))
    check_picture(strip)
    assert Preprocess({**CONFIG, "size": 224}).decode(strip).shape == (224, 224, 3)
    with pytest.raises(ImageDecodeError, match="extreme aspect ratio"):
        check_picture(tiny.png(tiny.noise((201, 1))))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_picture_are_refused(data: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8 "):
        with pytest.raises(ImageDecodeError):
            Preprocess(CONFIG).decode(start + data)


@pytest.mark.parametrize("file_format", ["ICO", "PCX", "TGA"])
def test_a_format_that_is_not_on_the_list_is_refused(file_format: str) -> None:
    with pytest.raises(ImageDecodeError):
        Preprocess(CONFIG).decode(tiny.png(tiny.noise((16, 16)), file_format))


def test_a_batch_is_normalised_like_its_images_and_left_alone() -> None:
    ours = Preprocess(CONFIG)
    images = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    batch = ours.normalise(images)
    assert torch.equal(batch, torch.cat([ours.normalise(image.unsqueeze(0)) for image in images]))
    assert torch.equal(images, before)
    assert ours.normalise(images.float()).equal(batch)
    assert ours.normalise(images, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_it_travels_to_another_process_and_equals_itself() -> None:
    ours = Preprocess(CONFIG)
    again = pickle.loads(pickle.dumps(ours))
    assert again == ours
    assert hash(again) == hash(ours)
    assert again != Preprocess({**CONFIG, "size": 64})


def test_input_that_is_not_square_is_refused() -> None:
    with pytest.raises(ModelRefError, match="square"):
        Preprocess({**CONFIG, "size": (32, 64)})


def test_open_clips_own_defaults_are_understood() -> None:
    assert Preprocess({}).size == 224
    assert Preprocess({}).mean == pytest.approx(open_clip.OPENAI_DATASET_MEAN)


def photographs() -> list[Image.Image]:
    """Parts of scikit-learn's two photographs, of odd and even sides."""
    found = []
    for name in ("china.jpg", "flower.jpg"):
        whole = Image.open(importlib.resources.files("sklearn.datasets.images").joinpath(name))  # type: ignore[arg-type]
        found += [whole.crop((x, y, x + w, y + h)) for x, y, w, h in CROPS]
    return found


CROPS = ((0, 0, 640, 427), (11, 7, 371, 403), (200, 90, 333, 257), (30, 60, 501, 98))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_photographs_decoded_at_reduced_scale_have_nearly_the_same_features(subsampling: str) -> None:
    base = load_base("starter")
    files = [tiny.png(photo, "JPEG", quality=90, subsampling=subsampling) for photo in photographs()]
    whole, reduced = (
        torch.stack([torch.from_numpy(base.preprocess.decode(file, reduced=way)) for file in files])
        for way in (False, True)
    )
    assert (whole != reduced).flatten(1).any(1).sum() == 6, "the flat crops are too small to be reduced"
    with torch.inference_mode():
        cosines = F.cosine_similarity(*(base.visual(base.preprocess.normalise(each)) for each in (whole, reduced)))
    assert cosines.min() >= 0.999


@pytest.mark.parametrize("file_format", sorted({*ALLOWED_FORMATS} - {"JPEG"}))
def test_only_jpeg_is_decoded_at_reduced_scale(file_format: str) -> None:
    file = tiny.png(tiny.noise((300, 200), "P" if file_format == "GIF" else "RGB"), file_format)
    ours = Preprocess(CONFIG)
    assert (ours.decode(file, reduced=True) == ours.decode(file)).all()


@pytest.mark.parametrize("resize_mode", ["longest", "squash"])
def test_other_ways_to_make_a_square_decode_the_whole_picture(resize_mode: str) -> None:
    file = tiny.png(tiny.noise((301, 200)), "JPEG")
    ours = Preprocess({**CONFIG, "resize_mode": resize_mode})
    assert (ours.decode(file, reduced=True) == ours.decode(file)).all()


@given(size=st.tuples(st.integers(1, 300), st.integers(1, 300)), mode=st.sampled_from(["RGB", "L", "CMYK"]))
def test_every_jpeg_gives_a_square_at_reduced_scale(size: tuple[int, int], mode: str) -> None:
    assert Preprocess(CONFIG).decode(tiny.png(tiny.noise(size, mode), "JPEG"), reduced=True).shape == (32, 32, 3)


def test_a_truncated_picture_is_refused_at_reduced_scale() -> None:
    whole = tiny.png(tiny.noise((300, 300)), "JPEG")
    with pytest.raises(ImageDecodeError):
        Preprocess(CONFIG).decode(whole[: len(whole) // 2], reduced=True)
