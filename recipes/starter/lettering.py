"""Words drawn in many fonts, sizes, angles and places, alone or over a picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import max_pool1d

FONTS = (
    "", "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic",
    "STIXGeneral", "STIXGeneralItalic", "cmr10", "cmss10",
)  # fmt: skip
"""To train with: Pillow's own, and some of those that matplotlib brings."""

UNSEEN_FONTS = ("DejaVuSansMono", "DejaVuSansMono-Bold", "STIXGeneralBol", "DejaVuSansMono-Oblique", "cmtt10")
"""To judge with."""

LONGEST_WORD = 10
"""Letters: more cannot be read in a picture of this size."""

_LEAST_SIZE, _MOST_SIZE = 8, 28
_TURN = 12.0
_MARGIN = 4
_LEAST_COVERED = 60
_LIGHT, _DARK = (0.6, 1.0), (0.0, 0.4)


def draw_words(
    words: Sequence[str], side: int, source: np.random.Generator, fonts: Sequence[str] = FONTS
) -> NDArray[np.uint8]:
    """Return how much of each pixel a word covers, uint8 [N, side, side].

    Args:
        words: Each short enough to be read.
        side: Of the result, in pixels.
        source: Of font, size, angle and place.
        fonts: To choose from.
    """
    return np.stack([_draw(word, side, source, fonts) for word in words])


def over(pictures: Tensor, masks: Tensor, generator: torch.Generator) -> Tensor:
    """Return pictures with words over them, in black, white or any colour, float32 [B, side, side, 3] in 0..255.

    Args:
        pictures: float32 [B, side, side, 3] in 0..255.
        masks: uint8 [B, side, side], from `draw_words`.
        generator: Of the colours.
    """
    count = len(pictures)
    coloured = torch.rand(count, 1, generator=generator) < 0.3
    plain = (torch.rand(count, 1, generator=generator) < 0.5).float().expand(-1, 3)
    inks = torch.where(coloured, torch.rand(count, 3, generator=generator), plain)
    share = masks.float().div(255).unsqueeze(-1)
    return pictures * (1 - share) + 255 * inks.view(-1, 1, 1, 3) * share


def alone(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Return pictures of nothing but a word, dark on light or light on dark, float32 [B, side, side, 3] in 0..255.

    Args:
        masks: uint8 [B, side, side], from `draw_words`.
        generator: Of the colours.
    """
    count = len(masks)
    is_light = torch.rand(count, 1, generator=generator) < 0.4
    light, dark = (low + (high - low) * torch.rand(count, 3, generator=generator) for low, high in (_LIGHT, _DARK))
    is_pure = torch.rand(count, 1, generator=generator) < 0.3
    light, dark = torch.where(is_pure, 1.0, light), torch.where(is_pure, 0.0, dark)
    inks, grounds = torch.where(is_light, light, dark), torch.where(is_light, dark, light)
    share = masks.float().div(255).unsqueeze(-1)
    return 255 * (grounds.view(-1, 1, 1, 3) * (1 - share) + inks.view(-1, 1, 1, 3) * share)


def on_notes(pictures: Tensor, masks: Tensor, generator: torch.Generator, *, blank: bool = False) -> Tensor:
    """Return pictures with a note on each, float32 [B, side, side, 3] in 0..255: a plain strip around a word.

    Args:
        pictures: float32 [B, side, side, 3] in 0..255.
        masks: uint8 [B, side, side], from `draw_words`: the notes lie where the words do.
        generator: Of the colours.
        blank: Whether nothing is written on the notes.
    """
    notes = alone(torch.zeros_like(masks) if blank else masks, generator)
    return torch.where(_box(masks).unsqueeze(-1), notes, pictures)


def _box(masks: Tensor) -> Tensor:
    """Return which pixels lie in the rectangle around a word, bool [B, side, side]."""
    covered = masks > _LEAST_COVERED
    rows, columns = (_between(covered.any(dim=axis)) for axis in (2, 1))
    return rows.unsqueeze(2) & columns.unsqueeze(1)


def _between(covered: Tensor) -> Tensor:
    """Return what lies between the first and the last covered place and a margin around it, bool [B, side]."""
    wider = max_pool1d(covered.float(), 2 * _MARGIN + 1, stride=1, padding=_MARGIN).bool().int()
    return (wider.cummax(dim=1).values & wider.flip(1).cummax(dim=1).values.flip(1)).bool()


def _draw(word: str, side: int, source: np.random.Generator, fonts: Sequence[str]) -> NDArray[np.uint8]:
    name = fonts[int(source.integers(len(fonts)))]
    wanted = source.uniform(0.65, 1.0) * (side - 2)
    left, top, right, bottom = _font(name, 20).getbbox(word)
    size = int(np.clip(20 * wanted / max(1, right - left), _LEAST_SIZE, _MOST_SIZE))
    font = _font(name, size)
    left, top, right, bottom = font.getbbox(word)
    strip = Image.new("L", (side, side))
    room_x, room_y = max(0, side - (right - left)), max(0, side - (bottom - top))
    x, y = source.uniform(0.1, 0.9) * room_x, source.uniform(0.1, 0.9) * room_y
    ImageDraw.Draw(strip).text((x - left, y - top), word, fill=255, font=font)
    return np.asarray(strip.rotate(source.uniform(-_TURN, _TURN), Image.Resampling.BILINEAR))


@lru_cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    if name:
        return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size)
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # with a size it is one
    return font
