"""What the model is shown of photographs: cut out, mirrored, recoloured, blurred, with a rectangle missing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.starter.pictures import Uniform, rectangles

_LEAST_AREA = 0.4
_MOST_STRETCH = 0.2
_BRIGHTNESS, _CONTRAST, _SATURATION, _TINT = 0.35, 0.35, 0.4, 0.1
_GREY_SHARE, _ERASED_SHARE, _BLURRED_SHARE = 0.05, 0.1, 0.3
_COARSE_SIDES = (24, 32, 40)
"""Pixels a side of blurred ones: photographs that were small, as CIFAR's, look so."""


def view(pictures: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Return views of photographs, float32 [B, side, side, 3] in 0..255.

    Args:
        pictures: uint8 [B, S, S, 3].
        side: Of the result, in pixels.
        generator: Of all that is random.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(len(pictures), *shape, generator=generator)

    pixels = pictures.permute(0, 3, 1, 2).float().div(255)
    is_coarse = uniform(0, 1) < _BLURRED_SHARE
    coarse_side = _COARSE_SIDES[int(torch.randint(len(_COARSE_SIDES), (), generator=generator))]
    pixels[is_coarse] = _coarse(pixels[is_coarse], coarse_side)
    seen = _recoloured(_cut_out(pixels, side, uniform), uniform)
    is_missing = rectangles(uniform, side) & (uniform(0, 1, 1, 1, 1) < _ERASED_SHARE)
    return torch.where(is_missing, uniform(0, 1, 3, 1, 1), seen).permute(0, 2, 3, 1) * 255


def _coarse(pixels: Tensor, side: int) -> Tensor:
    """Photographs as if they had been that small, [B, 3, S, S]."""
    small = F.interpolate(pixels, size=side, mode="area")
    return F.interpolate(small, size=pixels.shape[-2:], mode="bilinear")


def _cut_out(pixels: Tensor, side: int, uniform: Uniform) -> Tensor:
    """A part of each photograph, half of them mirrored, [B, 3, side, side]."""
    length, stretch = uniform(_LEAST_AREA, 1).sqrt(), uniform(-_MOST_STRETCH, _MOST_STRETCH).exp()
    across, down = (length * stretch).clamp(max=1), (length / stretch).clamp(max=1)
    x, y = uniform(-1, 1) * (1 - across), uniform(-1, 1) * (1 - down)
    flips, nothing = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0), torch.zeros(len(pixels))
    rows = torch.stack([across * flips, nothing, x, nothing, down, y], 1).view(-1, 2, 3)
    grid = F.affine_grid(rows, [len(pixels), 3, side, side], align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _recoloured(pixels: Tensor, uniform: Uniform) -> Tensor:
    """Brightness, contrast, saturation and tint changed, [B, 3, side, side] in 0..1."""
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    pixels = mean + (pixels - mean) * uniform(1 - _CONTRAST, 1 + _CONTRAST, 1, 1, 1)
    grey = pixels.mean(dim=1, keepdim=True)
    is_grey = uniform(0, 1, 1, 1, 1) < _GREY_SHARE
    saturation = torch.where(is_grey, 0.0, uniform(1 - _SATURATION, 1 + _SATURATION, 1, 1, 1))
    pixels = grey + (pixels - grey) * saturation
    brightness = uniform(1 - _BRIGHTNESS, 1 + _BRIGHTNESS, 1, 1, 1)
    return (pixels * brightness * uniform(1 - _TINT, 1 + _TINT, 3, 1, 1)).clamp(0, 1)
