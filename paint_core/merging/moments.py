"""What the layers of a tower receive: the second moments of their inputs, from some unlabelled images."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Moments = Mapping[str, Tensor]
"""Name of a weight to E[x x^T] of its inputs, float64 [n, n]; a convolution's input is a patch of n numbers."""


@torch.no_grad()
def input_moments(visual: nn.Module, pixels: Tensor) -> dict[str, Tensor]:
    """The second moments of the inputs of all linear layers, convolutions and attention projections.

    Left out are depthwise and grouped convolutions, in which not all channels meet, convolutions whose padding has a
    name, and what is read as a bare parameter, such as the output projection in torch's multi-head attention.

    Args:
        visual: in eval mode.
        pixels: normalised images [B, 3, S, S], on the tower's device.
    """
    moments: dict[str, Tensor] = {}

    def recorder(name: str, as_rows: Callable[[Tensor], Tensor]) -> Callable[..., None]:
        def record(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            if arguments:
                rows = as_rows(arguments[0]).double()
                moments[name] = rows.T @ rows / len(rows)

        return record

    with ExitStack() as hooks:
        for name, module in visual.named_modules():
            found = _weight_and_rows(module)
            if found is not None:
                weight, as_rows = found
                handle = module.register_forward_pre_hook(recorder(f"{name}.{weight}".removeprefix("."), as_rows))
                hooks.callback(handle.remove)
        visual(pixels)
    return moments


def _weight_and_rows(module: nn.Module) -> tuple[str, Callable[[Tensor], Tensor]] | None:
    if isinstance(module, nn.Linear):
        return "weight", _features_last
    if isinstance(module, nn.Conv2d) and module.groups == 1 and not isinstance(module.padding, str):
        return "weight", lambda images: _patches(images, module)
    if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        return "in_proj_weight", _features_last
    return None


def _features_last(inputs: Tensor) -> Tensor:
    return inputs.reshape(-1, inputs.shape[-1])


def _patches(images: Tensor, layer: nn.Conv2d) -> Tensor:
    assert not isinstance(layer.padding, str)
    columns = F.unfold(images, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return columns.transpose(1, 2).reshape(-1, columns.shape[1])
