"""An image tower as a program that runs without Python, for CPUs.

A forward of a small tower is some hundred short operations. Between two of them Python wants its one lock back, for
which the event loop and the threads that decode stand in line too. Traced, the forward takes it once. The weights are
arguments: one program serves all versions of a base, and a swap traces nothing.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import structlog
import torch
from torch import Tensor, nn

_MOST_TOWERS = 8
_TRACED_IMAGES = 3  # neither 1 nor a power of 2, so that no size of the trace is taken for a constant by accident
_TRIED_IMAGES = (1, 2, 5)
_NUDGE = 1.01
_CLOSE = 1e-3
_log = structlog.get_logger(__name__)

Forward = Callable[[Tensor], Tensor]
"""Normalised pixels [B, 3, S, S] to features [B, D]."""


def compile_forward(visual: nn.Module, pattern: nn.Module, side: int) -> Forward:
    """Return what computes a tower's features: its program, or, where there is none, the tower itself.

    Args:
        visual: The tower, on the CPU.
        pattern: The tower of its base, of which the program is made once.
        side: S.

    Returns:
        A forward that gives the same features for any number of images.
    """
    names = tuple(_tensors(visual))
    if type(visual) is not type(pattern) or names != tuple(_tensors(pattern)):
        return visual
    program = _program(pattern, side)
    if program is None:
        return visual
    weights = tuple(_tensors(visual).values())

    def forward(images: Tensor) -> Tensor:
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            features: Tensor = program(images, *weights)
        return features

    return forward


@lru_cache(maxsize=_MOST_TOWERS)
def _program(pattern: nn.Module, side: int) -> Callable[..., Tensor] | None:
    """Return the program, tried with other weights and other numbers of images than it was traced with."""
    try:
        with torch.inference_mode(), _without_warnings():
            program = _trace(pattern, side)
            if _is_right(program, pattern, side):
                return program
        cause = "its features differ"
    except Exception as error:  # an edge: any tower may do what cannot be traced, and runs as it is
        cause = f"{type(error).__name__}: {str(error)[:200]}"
    _log.info("tower runs without a program", tower=type(pattern).__name__, cause=cause)
    return None


def _trace(pattern: nn.Module, side: int) -> Callable[..., Tensor]:
    tensors = _tensors(pattern)
    scratch = copy.deepcopy(pattern).eval()

    def forward(images: Tensor, *weights: Tensor) -> Tensor:
        _assign(scratch, dict(zip(tensors, weights, strict=True)))
        features: Tensor = scratch(images)
        return features

    program: Callable[..., Tensor] = torch.jit.trace(  # type: ignore[no-untyped-call]
        forward, (_noise(_TRACED_IMAGES, side), *tensors.values()), check_trace=False
    )
    return program


def _is_right(program: Callable[..., Tensor], pattern: nn.Module, side: int) -> bool:
    other = copy.deepcopy(pattern).eval()
    _assign(other, {name: _nudged(tensor) for name, tensor in _tensors(pattern).items()})
    weights = tuple(_tensors(other).values())
    for num_images in _TRIED_IMAGES:
        images = _noise(num_images, side)
        expected, got = other(images), program(images, *weights)
        if got.shape != expected.shape or not bool(((got - expected).abs() <= _CLOSE * expected.abs().max()).all()):
            return False
    return True


def _nudged(tensor: Tensor) -> Tensor:
    return tensor * _NUDGE if tensor.is_floating_point() else tensor


def _noise(num_images: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(num_images)
    images = torch.randn((num_images, 3, side, side), generator=generator)
    return images.contiguous(memory_format=torch.channels_last)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _assign(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put tensors in the place of parameters and buffers, without making parameters of them."""
    for name, tensor in tensors.items():
        owner, _, leaf = name.rpartition(".")
        holder = module.get_submodule(owner)
        kept = holder._parameters if leaf in holder._parameters else holder._buffers
        kept[leaf] = tensor  # type: ignore[assignment]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """TorchScript is no longer developed, and says so; a tower that it cannot trace runs as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
