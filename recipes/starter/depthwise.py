"""Depthwise convolutions whose backward pass is fast on a CPU without bf16.

There the gradient of the weights takes a third of a step: for 160 channels of 3 x 3 pixels and 128 pictures 30 ms
of one core, where the forward pass takes 0.6 ms. As matrix products it costs little. The results differ in the last
digits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LARGEST = 8
"""Pixels a side of the maps for which matrix products are faster."""


def speed_up(model: nn.Module) -> None:
    """Give every depthwise convolution of a model that keeps the size of its maps the faster backward pass.

    Args:
        model: Changed in place; its weights and their names stay what they are.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and _is_depthwise(module):
            module.__class__ = _Depthwise


def _is_depthwise(conv: nn.Conv2d) -> bool:
    size = conv.kernel_size[0]
    has_same_size = conv.stride == (1, 1) and conv.dilation == (1, 1) and conv.padding == (size // 2, size // 2)
    return conv.groups == conv.in_channels == conv.out_channels and conv.kernel_size == (size, size) and has_same_size


class _Depthwise(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of maps [B, C, S, S]."""
        if input.shape[2] != input.shape[3] or input.shape[3] > _LARGEST:
            return super().forward(input)
        result: Tensor = _Convolution.apply(input, self.weight, self.bias)
        return result


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.has_bias = bias is not None
        return F.conv2d(maps, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        maps, weight = ctx.saved_tensors
        (gradient,) = gradients
        channels, size = len(weight), weight.shape[-1]
        of_maps, _, _ = torch.ops.aten.convolution_backward(
            gradient, maps, weight, None, [1, 1], [size // 2] * 2, [1, 1], False, [0, 0], channels, [True, False, False]
        )
        side = maps.shape[-1]
        products = torch.bmm(_by_channel(gradient), _by_channel(maps).transpose(1, 2))
        of_weight = (products.view(channels, -1) @ _offsets(side, size)).view_as(weight)
        return of_maps, of_weight, gradient.sum(dim=(0, 2, 3)) if ctx.has_bias else None


def _by_channel(maps: Tensor) -> Tensor:
    """[B, C, S, S] as [C, S * S, B]."""
    return maps.permute(1, 2, 3, 0).reshape(maps.shape[1], -1, len(maps))


@lru_cache
def _offsets(side: int, size: int) -> Tensor:
    """Which weight lies between two pixels, float32 [S * S * S * S, K * K], 0 or 1."""
    rows = torch.arange(side)
    offset = rows.unsqueeze(0) - rows.unsqueeze(1) + size // 2  # [from, to]
    down, across = offset.view(side, 1, side, 1), offset.view(1, side, 1, side)
    is_inside = (down >= 0) & (down < size) & (across >= 0) & (across < size)
    index = (down * size + across).clamp(0, size * size - 1).expand(side, side, side, side)
    return (F.one_hot(index, size * size) * is_inside.unsqueeze(-1)).float().view(-1, size * size)
