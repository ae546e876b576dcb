"""An image tower as a traced program, for CPUs.

A forward pass of a small tower is some hundred short operations. After each of them Python takes the GIL, for which the
event loop and other workers wait too; the traced program takes it once. The weights are arguments, so one program
serves all versions of a base, and a swap traces nothing.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial

import structlog
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paint_core.images.preprocess import Preprocess

_MOST_TOWERS = 8
_TRACED_IMAGES = 3  # neither 1 nor a power of 2, so that no size of the trace is taken for a constant by accident
_TRIED_IMAGES = (1, 2, 5)
_NUDGE = 1.01
_CLOSE = {torch.float32: 1e-3, torch.bfloat16: 3e-2}
"""Of the largest feature: how far the program's features may be from the tower's own in the same arithmetic."""
_log = structlog.get_logger(__name__)

Forward = Callable[[Tensor], Tensor]
"""Pixels, uint8 [B, S, S, 3], to unit features, float32 [B, D]."""


def trace_forward(
    visual: nn.Module, pattern: nn.Module, preprocess: Preprocess, dtype: torch.dtype = torch.float32
) -> Forward:
    """Return what computes a tower's features, for any number of images: its traced program, or else plain Python.

    Args:
        visual: The tower, in float32 on the CPU.
        pattern: The tower of its base, which is traced once.
        preprocess: Of the base.
        dtype: To compute in; with bfloat16 the weights are cast here, once.

    Returns:
        A forward function.
    """
    names = tuple(_tensors(visual))
    is_alike = type(visual) is type(pattern) and names == tuple(_tensors(pattern))
    program = _program(pattern, preprocess, dtype) if is_alike else None
    if program is None:
        return partial(_features, visual if dtype is torch.float32 else _cast_module(visual, dtype), preprocess, dtype)
    weights = tuple(_cast(tensor, dtype) for tensor in _tensors(visual).values())

    def forward(images: Tensor) -> Tensor:
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            features: Tensor = program(images, *weights)
        return features

    return forward


def _features(visual: nn.Module, preprocess: Preprocess, dtype: torch.dtype, images: Tensor) -> Tensor:
    return F.normalize(visual(preprocess.normalise(images).to(dtype)).float(), dim=-1)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _cast_module(visual: nn.Module, dtype: torch.dtype) -> nn.Module:
    return copy.deepcopy(visual).to(dtype).eval()


@lru_cache(maxsize=_MOST_TOWERS)
def _program(pattern: nn.Module, preprocess: Preprocess, dtype: torch.dtype) -> Callable[..., Tensor] | None:
    """Return the program, checked with other weights and batch sizes than it was traced with; None: it has none."""
    try:
        with torch.inference_mode(), _without_warnings():
            program = _trace(pattern, preprocess, dtype)
            if _is_right(program, pattern, preprocess, dtype):
                return program
        cause = "its features differ"
    except Exception as error:  # a tower that cannot be traced runs as it is
        cause = f"{type(error).__name__}: {str(error)[:200]}"
    _log.info("tower runs without a traced program", tower=type(pattern).__name__, cause=cause)
    return None


def _trace(pattern: nn.Module, preprocess: Preprocess, dtype: torch.dtype) -> Callable[..., Tensor]:
    scratch = _cast_module(pattern, dtype)
    tensors = _tensors(scratch)

    def forward(images: Tensor, *weights: Tensor) -> Tensor:
        _assign(scratch, dict(zip(tensors, weights, strict=True)))
        return _features(scratch, preprocess, dtype, images)

    program: Callable[..., Tensor] = torch.jit.trace(  # type: ignore[no-untyped-call]
        forward, (_noise(_TRACED_IMAGES, preprocess.size), *tensors.values()), check_trace=False
    )
    return program


def _is_right(program: Callable[..., Tensor], pattern: nn.Module, preprocess: Preprocess, dtype: torch.dtype) -> bool:
    other = _cast_module(pattern, dtype)
    _assign(other, {name: _nudged(tensor) for name, tensor in _tensors(other).items()})
    weights = tuple(_tensors(other).values())
    for num_images in _TRIED_IMAGES:
        images = _noise(num_images, preprocess.size)
        expected, got = _features(other, preprocess, dtype, images), program(images, *weights)
        most = _CLOSE[dtype] * expected.abs().max()
        if got.shape != expected.shape or not bool(((got - expected).abs() <= most).all()):
            return False
    return True


def _nudged(tensor: Tensor) -> Tensor:
    return tensor * _NUDGE if tensor.is_floating_point() else tensor


def _noise(num_images: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(num_images)
    return torch.randint(0, 256, (num_images, side, side, 3), dtype=torch.uint8, generator=generator)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _assign(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Replace parameters and buffers by tensors, without making parameters of them."""
    for name, tensor in tensors.items():
        owner, _, leaf = name.rpartition(".")
        holder = module.get_submodule(owner)
        kept = holder._parameters if leaf in holder._parameters else holder._buffers
        kept[leaf] = tensor  # type: ignore[assignment]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """TorchScript warns that it is no longer developed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
