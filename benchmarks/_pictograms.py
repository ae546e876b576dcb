"""Two patching tasks drawn from the bundled pictograms: how many there are, and how one is drawn.

Each pictogram is cut out of its plain background and set on new ones. Training, validation and test draw on different
pictograms, so that a score tells of counting or of style, not of pictures that were seen before.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter, ImageOps
from scipy import ndimage

from paint_core.starter import anchors_archive

COUNTS = ("one icon", "two icons", "three icons", "four icons", "five icons", "six icons")
LOOKS = ("a coloured icon", "a grey icon", "a black silhouette", "an outline", "a blurred icon", "a negative")
SOURCE_SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
_SIDE = 64
_SEED = 0
_TOLERANCE = 24  # summed over three channels: what differs from the corner by less is background
_SMALLEST, _LARGEST = 14, 18  # sides of the pictograms to count, in pixels: six of them find room
_TRIES = 200

Items = list[tuple[bytes, int]]
"""PNG files with their labels."""


def sources(split: str) -> tuple[str, ...]:
    """Return the names of the pictograms that a split may draw on; no two splits share one.

    Args:
        split: `train`, `validation` or `test`.
    """
    names = sorted(_archive_names())
    order = np.random.default_rng(_SEED).permutation(len(names))
    first = 0
    for name, share in SOURCE_SHARES.items():
        last = first + round(share * len(names))
        if name == split:
            return tuple(names[index] for index in order[first:last])
        first = last
    raise ValueError(f"there is no split {split!r}: use one of {list(SOURCE_SHARES)}")


def draw_counting(split: str, num_images: int) -> Items:
    """Return pictures of one to six copies of a pictogram on a plain background, labelled by `COUNTS`.

    The copies of one picture have one size, drawn at random whatever their number, and do not overlap.
    """
    source = np.random.default_rng([_SEED, 1, list(SOURCE_SHARES).index(split)])
    names = sources(split)
    labels = _shuffled_labels(num_images, len(COUNTS), source)
    return [(_png(scatter(cut_out(str(source.choice(names))), label + 1, source)), label) for label in labels]


def draw_looks(split: str, num_images: int) -> Items:
    """Return pictures of one pictogram in one of six ways to draw it, labelled by `LOOKS`."""
    source = np.random.default_rng([_SEED, 2, list(SOURCE_SHARES).index(split)])
    names = sources(split)
    labels = _shuffled_labels(num_images, len(LOOKS), source)
    return [(_png(_draw_alone(cut_out(str(source.choice(names))), label, source)), label) for label in labels]


def read_anchors(names: Sequence[str] | None = None) -> list[bytes]:
    """Return the bundled unlabelled pictures as PNG files; all of them, or those named."""
    with zipfile.ZipFile(anchors_archive()) as archive:
        return [archive.read(name) for name in (names if names is not None else sorted(_archive_names()))]


def _archive_names() -> list[str]:
    with zipfile.ZipFile(anchors_archive()) as archive:
        return [name for name in archive.namelist() if name.endswith(".png")]


@cache
def cut_out(name: str) -> Image.Image:
    """Return the pictogram alone, RGBA, cropped to its outline; all of a picture that has no plain background."""
    picture = Image.open(io.BytesIO(read_anchors([name])[0])).convert("RGB")
    pixels = np.asarray(picture, dtype=np.int16)
    differs = np.abs(pixels - pixels[0, 0]).sum(axis=2) > _TOLERANCE
    outline = ndimage.binary_fill_holes(differs)
    if outline.sum() < 0.05 * outline.size:
        outline = np.ones_like(outline)
    picture.putalpha(Image.fromarray(np.where(outline, 255, 0).astype(np.uint8)))
    return picture.crop(Image.fromarray(outline).getbbox())


def scatter(pictogram: Image.Image, count: int, source: np.random.Generator) -> NDArray[np.uint8]:
    """Return copies on a plain background; after many tries in vain, everything is placed anew, a little smaller.

    Args:
        pictogram: RGBA.
        count: 1 to 6.
        source: Of size, places and background.
    """
    side = int(source.integers(_SMALLEST, _LARGEST + 1))
    places: list[tuple[int, int]] = []
    tries = 0
    while len(places) < count:
        left, top = (int(place) for place in source.integers(0, _SIDE - side + 1, 2))
        if all(max(abs(left - other[0]), abs(top - other[1])) > side for other in places):
            places.append((left, top))
        tries += 1
        if tries % _TRIES == 0:
            side, places = max(_SMALLEST, side - 1), []
    canvas = _background(source)
    copy = pictogram.resize(_fit(pictogram.size, side), Image.Resampling.LANCZOS)
    for left, top in places:
        canvas.paste(copy, (left + (side - copy.width) // 2, top + (side - copy.height) // 2), copy)
    return np.array(canvas)


def _draw_alone(pictogram: Image.Image, look: int, source: np.random.Generator) -> NDArray[np.uint8]:
    size = _fit(pictogram.size, int(source.integers(44, 61)))
    left, top = (int(source.integers(0, _SIDE - side + 1)) for side in size)
    canvas = _background(source)
    copy = _restyle(pictogram.resize(size, Image.Resampling.BICUBIC), LOOKS[look])
    canvas.paste(copy, (left, top), copy)
    return np.array(canvas.filter(ImageFilter.GaussianBlur(2)) if LOOKS[look] == "a blurred icon" else canvas)


def _restyle(picture: Image.Image, look: str) -> Image.Image:
    """The cut-out, redrawn; what the name of the look does not change stays as it is."""
    colours, outline = picture.convert("RGB"), picture.getchannel("A")
    match look:
        case "a grey icon":
            colours = colours.convert("L").convert("RGB")
        case "a negative":
            colours = ImageOps.invert(colours)
        case "a black silhouette":
            colours = Image.new("RGB", picture.size)
        case "an outline":
            colours = Image.new("RGB", picture.size)
            padded = ImageOps.expand(outline, 2)
            outline = ImageChops.subtract(padded, padded.filter(ImageFilter.MinFilter(5))).crop(
                (2, 2, 2 + picture.width, 2 + picture.height)
            )
    colours.putalpha(outline)
    return colours


def _background(source: np.random.Generator) -> Image.Image:
    """White half of the time, else a light colour, as in the pictures the starter knows."""
    colour = (255, 255, 255) if source.random() < 0.5 else tuple(int(level) for level in source.integers(120, 256, 3))
    return Image.new("RGB", (_SIDE, _SIDE), colour)


def _fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size, scaled so that the longer side is `side`."""
    longest = max(size)
    return max(1, round(size[0] * side / longest)), max(1, round(size[1] * side / longest))


def _shuffled_labels(num_images: int, num_classes: int, source: np.random.Generator) -> list[int]:
    return [int(label) for label in source.permutation(np.arange(num_images) % num_classes)]


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
