"""What the model is shown: pictograms turned, scaled, tinted, on backgrounds, some with their name written on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor


@dataclass(frozen=True)
class Look:
    """How a pictogram may be shown.

    Attributes:
        scale: Smallest and largest; at 2 a pictogram is half as large as its picture.
        turn: Largest angle, in radians, to either side.
        stretch: Largest logarithm of how much wider or narrower it gets.
        shear: Largest, as a share of the height.
        bend: Standard deviation of how far each of 4 x 4 points moves, in halves of the picture; what lies between
            follows smoothly, so that proportions change as they do from one vendor to the next.
        shift: Largest, in halves of the picture, to each side.
        tint: Smallest and largest factor of each colour.
        grey_share: Of the pictures: those without colour.
        swapped_share: Of the pictures: those whose red, green and blue change places.
        erased_share: Of the pictures: those of which a rectangle is missing.
        written_share: Of the pictures: the pictogram with its own name on it.
        word_share: Of the pictures: nothing but the name.
        coloured_share: Of the pictures: those whose background is not white.
        light_ink_share: Of the names on coloured backgrounds: those in white.
        shaded_share: Of the coloured backgrounds: those that change from one side to the other.
    """

    scale: tuple[float, float] = (0.7, 1.7)
    turn: float = 0.4
    stretch: float = 0.3
    shear: float = 0.2
    bend: float = 0.07
    shift: float = 0.25
    tint: tuple[float, float] = (0.55, 1.3)
    grey_share: float = 0.15
    swapped_share: float = 0.1
    erased_share: float = 0.3
    written_share: float = 0.08
    word_share: float = 0.02
    light_ink_share: float = 0.5
    coloured_share: float = 0.5
    shaded_share: float = 0.5


TRAINING = Look()
"""Words on pictures, and words alone, make a model that reads a little, as those from the web do."""

WHOLE = Look(
    scale=(0.95, 1.4),
    turn=0.2,
    stretch=0,
    shear=0,
    bend=0,
    shift=0.1,
    tint=(0.8, 1.15),
    grey_share=0,
    swapped_share=0,
    erased_share=0,
    written_share=0,
    word_share=0,
    light_ink_share=0,
    shaded_share=0.2,
)
"""The whole pictogram can be seen, and nothing is written on it."""

Uniform = Callable[..., Tensor]
"""Draws numbers between two limits, one for each picture, of a shape."""

_STRIP_HEIGHT = 18


def show(
    pictures: Tensor,
    is_plain: Tensor,
    may_flip: Tensor,
    strips: Tensor,
    side: int,
    generator: torch.Generator,
    look: Look = TRAINING,
) -> Tensor:
    """Return pictures with backgrounds, float32 [B, side, side, 3] in 0..255.

    Args:
        pictures: uint8 [B, S, S, 4], colours and coverage.
        is_plain: bool [B], one-colour icons, drawn in any dark colour.
        may_flip: bool [B], whether a mirror image shows the same thing.
        strips: uint8 [B, H, side], how much of each pixel the written name covers.
        side: Of the result, in pixels.
        generator: Of all that is random.
        look: What may happen to a pictogram.
    """
    count = len(pictures)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    layers = pictures.permute(0, 3, 1, 2).float().div(255)
    colours = torch.where(is_plain.view(-1, 1, 1, 1), uniform(0, 0.6, 3, 1, 1), layers[:, :3])
    colours = (colours * uniform(*look.tint, 3, 1, 1)).clamp(0, 1)
    colours = torch.where(uniform(0, 1, 1, 1, 1) < look.grey_share, colours.mean(dim=1, keepdim=True), colours)
    colours = torch.where(uniform(0, 1, 1, 1, 1) < look.swapped_share, _swap(colours, uniform), colours)
    coverage = layers[:, 3:]
    # Multiplied before it is moved, so that the hidden colours of transparent pixels do not bleed in.
    moved = _move(torch.cat([colours * coverage, coverage], dim=1), side, may_flip, uniform, look)
    moved = moved * ~(rectangles(uniform, side) & (uniform(0, 1, 1, 1, 1) < look.erased_share))
    draw = uniform(0, 1)
    only_word = (draw < look.word_share).view(-1, 1, 1, 1)
    is_written = (draw < look.word_share + look.written_share).view(-1, 1, 1, 1)
    moved = moved * ~only_word
    is_coloured = uniform(0, 1, 1, 1, 1) < look.coloured_share
    background = torch.where(is_coloured, _backgrounds(uniform, side, look), 1.0)
    canvas = background * (1 - moved[:, 3:]) + moved[:, :3]
    text = _place(strips, side, uniform) * is_written
    ink = (is_coloured & (uniform(0, 1, 1, 1, 1) < look.light_ink_share)).float()
    return (canvas * (1 - text) + ink * text).clamp(0, 1).permute(0, 2, 3, 1) * 255


def write_names(names: Sequence[str], side: int) -> NDArray[np.uint8]:
    """Return each name as a strip of text, uint8 [M, H, side], shrunk until it fits."""
    return np.stack([_write(name, side) for name in names])


@lru_cache(maxsize=200_000)
def _write(name: str, side: int) -> NDArray[np.uint8]:
    for size in (16, 14, 12, 10, 9, 8, 7, 6):
        font = _font(size)
        left, top, right, bottom = font.getbbox(name)
        if right - left <= side - 2:
            break
    strip = Image.new("L", (side, _STRIP_HEIGHT))
    x = max(0, int(side - (right - left)) // 2)
    ImageDraw.Draw(strip).text((x - left, (_STRIP_HEIGHT - (bottom - top)) // 2 - top), name, fill=255, font=font)
    return np.asarray(strip)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # with a size it is one
    return font


def _place(strips: Tensor, side: int, uniform: Uniform) -> Tensor:
    """The strips at a random height, [B, 1, side, side]."""
    height = strips.shape[1]
    rows = (uniform(0, 1) * (side - height)).long()
    index = torch.arange(side).view(1, -1) - rows.view(-1, 1)
    inside = (index >= 0) & (index < height)
    gathered = strips.gather(1, index.clamp(0, height - 1).unsqueeze(-1).expand(-1, -1, side))
    return (gathered.float().div(255) * inside.unsqueeze(-1)).unsqueeze(1)


def _backgrounds(uniform: Uniform, side: int, look: Look) -> Tensor:
    """A light colour, which may change from one side to the other."""
    ramp = torch.linspace(0, 1, side).view(1, 1, 1, -1)
    start = uniform(0.35, 1, 3, 1, 1)
    end = torch.where(uniform(0, 1, 1, 1, 1) < look.shaded_share, uniform(0.35, 1, 3, 1, 1), start)
    return (start + (end - start) * ramp).expand(-1, -1, side, -1)


def _swap(colours: Tensor, uniform: Uniform) -> Tensor:
    """The colours with their channels in another order, [B, 3, S, S]."""
    order = uniform(0, 1, 3).argsort(dim=1).view(-1, 3, 1, 1)
    return colours.gather(1, order.expand_as(colours))


def rectangles(uniform: Uniform, side: int) -> Tensor:
    """Return what lies in a rectangle that is at most half as wide and high as the picture, bool [B, 1, side, side].

    Args:
        uniform: Of its sides and its place.
        side: Of the picture, in pixels.
    """
    ramp = torch.linspace(0, 1, side).view(1, -1)
    inside = []
    for _ in range(2):
        length = uniform(0.15, 0.5, 1)
        start = uniform(0, 1, 1) * (1 - length)
        inside.append((ramp >= start) & (ramp < start + length))
    return (inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1)


def _move(layers: Tensor, side: int, may_flip: Tensor, uniform: Uniform, look: Look) -> Tensor:
    """The layers turned, scaled, stretched, sheared, bent, shifted and mirrored, [B, 4, side, side]."""
    scale, angle = uniform(*look.scale), uniform(-look.turn, look.turn)
    wider, shift = uniform(-look.stretch, look.stretch).exp().sqrt(), uniform(-look.shift, look.shift, 2)
    flip = torch.where(may_flip & (uniform(0, 1) < 0.5), -1.0, 1.0)
    across, down, sine, cosine = scale * wider * flip, scale / wider, angle.sin(), angle.cos()
    shear = uniform(-look.shear, look.shear)
    rows = [
        torch.stack([cosine * across, (shear * cosine - sine) * across, shift[:, 0]], 1),
        torch.stack([sine * down, (shear * sine + cosine) * down, shift[:, 1]], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [len(layers), 4, side, side], align_corners=False)
    if look.bend:
        grid = grid + _bends(uniform, side, look.bend)
    return F.grid_sample(layers, grid, mode="bilinear", align_corners=False)


def _bends(uniform: Uniform, side: int, deviation: float) -> Tensor:
    """How far each pixel's source moves, smoothly, [B, side, side, 2]."""
    points, basis = uniform(-1, 1, 2, 4, 4) * (3**0.5 * deviation), _basis(side)
    return (basis @ points @ basis.T).permute(0, 2, 3, 1)


@lru_cache
def _basis(side: int) -> Tensor:
    """What each of 4 points adds to each of `side` by bicubic interpolation, [side, 4]."""
    ones = torch.eye(4).view(4, 1, 1, 4)
    return F.interpolate(ones, size=(1, side), mode="bicubic", align_corners=True).view(4, side).T


def on_white(pictures: NDArray[np.uint8], side: int) -> Tensor:
    """Return pictures on white, uint8 [N, side, side, 3].

    Args:
        pictures: uint8 [N, S, S, 4].
        side: In pixels.
    """
    shown = []
    for pixels in pictures:
        picture = Image.fromarray(np.asarray(pixels))
        canvas = Image.new("RGBA", picture.size, "white")
        canvas.alpha_composite(picture)
        shown.append(np.asarray(canvas.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)))
    return torch.from_numpy(np.stack(shown))
