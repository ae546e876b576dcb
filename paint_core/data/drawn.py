"""Drawn images: shapes, lines and clouds of random colours, for anchors where nobody has a pool of images.

Filters that are learned from such pictures come close to those learned from photographs (Baradad et al., *Learning to
see by looking at noise*, NeurIPS 2021, arXiv 2106.05963), because they have the statistics of natural images: few
large and many small shapes that hide each other ("dead leaves"), and clouds whose power falls with the frequency.
"""

import math
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from paint_core.runtime.randomness import derive_seed

_OVERSAMPLING = 2
_MOST_SHAPES = 24
_SHARE_OF_CLOUDS, _SHARE_OF_BLURRED = 1 / 3, 1 / 4

Source = np.random.Generator


def draw_images(num_images: int, size: int, seed: int = 0) -> Tensor:
    """Images that show nothing in particular, uint8 [N, S, S, 3]; a function of its arguments.

    Args:
        num_images: N, at least 1.
        size: S, in pixels, at least 1.
        seed: another one gives other images.
    """
    source = np.random.default_rng(derive_seed("drawn", seed, size))
    return torch.from_numpy(np.stack([_draw(size, source) for _ in range(num_images)]))


def _draw(size: int, source: Source) -> NDArray[np.uint8]:
    side = _OVERSAMPLING * size
    is_cloudy = source.random() < _SHARE_OF_CLOUDS
    image = _cloud(side, source) if is_cloudy else Image.new("RGB", (side, side), _colour(source))
    canvas = ImageDraw.Draw(image)
    for _ in range(int(source.integers(1, _MOST_SHAPES + 1))):
        _SHAPES[int(source.integers(len(_SHAPES)))](canvas, side, source)
    image = image.resize((size, size), Image.Resampling.LANCZOS)
    if source.random() < _SHARE_OF_BLURRED:
        image = image.filter(ImageFilter.GaussianBlur(float(source.uniform(0.005, 0.03)) * size))
    return np.asarray(image)


def _cloud(side: int, source: Source) -> Image.Image:
    """Coloured noise whose amplitude falls as a power of the frequency, between 0.6 and 2."""
    frequencies = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :])
    frequencies[0, 0] = 1 / side
    amplitudes = frequencies ** -source.uniform(0.6, 2.0)
    phases = np.exp(2j * np.pi * source.random((3, side, side)))
    waves = np.fft.ifft2(amplitudes * phases).real
    low, high = waves.min(), waves.max()
    return Image.fromarray((255 * (waves - low) / (high - low)).astype(np.uint8).transpose(1, 2, 0))


def _colour(source: Source) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in source.integers(0, 256, 3))
    return red, green, blue


def _box(side: int, source: Source) -> tuple[float, float, float, float]:
    """Of a shape anywhere: sizes follow a power law, so that few shapes are large and many small."""
    x, y = source.uniform(0, side, 2)
    radius = side * min(0.6, 0.04 / source.uniform(0.05, 1.0))
    width, height = radius * source.uniform(0.4, 1.6, 2)
    return x - width, y - height, x + width, y + height


def _filled(kind: str, canvas: ImageDraw.ImageDraw, side: int, source: Source) -> None:
    edge = _colour(source) if source.random() < 0.4 else None
    draw = getattr(canvas, kind)
    draw(_box(side, source), fill=_colour(source), outline=edge, width=int(source.integers(1, 2 + side // 24)))


def _polygon(canvas: ImageDraw.ImageDraw, side: int, source: Source) -> None:
    left, top, right, bottom = _box(side, source)
    angles = np.sort(source.uniform(0, 2 * math.pi, int(source.integers(3, 9))))
    reach = source.uniform(0.4, 1.0, len(angles))
    xs = (left + right + (right - left) * reach * np.cos(angles)) / 2
    ys = (top + bottom + (bottom - top) * reach * np.sin(angles)) / 2
    corners = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
    canvas.polygon(corners, fill=_colour(source), outline=_colour(source))


def _arc(canvas: ImageDraw.ImageDraw, side: int, source: Source) -> None:
    start, end = (float(angle) for angle in source.uniform(0, 360, 2))
    canvas.arc(_box(side, source), start, end, fill=_colour(source), width=int(source.integers(2, 3 + side // 8)))


def _line(canvas: ImageDraw.ImageDraw, side: int, source: Source) -> None:
    points = source.uniform(0, side, (int(source.integers(2, 5)), 2))
    width = int(source.integers(1, 2 + side // 10))
    canvas.line([(float(x), float(y)) for x, y in points], fill=_colour(source), width=width, joint="curve")


_SHAPES = (partial(_filled, "ellipse"), partial(_filled, "rectangle"), _polygon, _arc, _line)
