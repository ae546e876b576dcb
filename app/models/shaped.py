"""A tower in a few fixed batch sizes, for devices on which launching operations takes longer than computing them.

A batch is padded to the next larger size. Pixels are sent to the device while it computes the previous batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from app.serving.model import MAX_BATCH_IMAGES, Result
from paint_core.images.preprocess import Preprocess

SHAPES = (1, 2, 4, 8, 16, 32, MAX_BATCH_IMAGES)
"""Batch sizes that are recorded; a batch between two of them is padded to the larger one."""


def shape_for(num_images: int) -> int:
    """Return the recorded batch size for so many images, at most the largest of `SHAPES`."""
    return next(shape for shape in SHAPES if shape >= num_images)


class Event(Protocol):
    """A point in the work of a device, as CUDA's events."""

    def record(self) -> object:
        """Mark the present end of the queue of the current context."""

    def wait(self) -> object:
        """Let the queue of the current context wait for the mark."""

    def synchronize(self) -> object:
        """Wait here until the device has passed the mark."""


class Device(Protocol):
    """What a device does for `ShapedRunner`; `app.models.cuda` has the real one."""

    where: torch.device
    """Where tensors of the device lie."""

    def record(self, forward: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        """Return what repeats `forward` on the tensors that it reads now, and the output that it writes each time."""

    def host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return memory of the host that is copied to and from the device without waiting."""

    def event(self) -> Event:
        """Return a new event."""

    def copying(self) -> AbstractContextManager[object]:
        """Return the context in which pixels are sent."""

    def computing(self) -> AbstractContextManager[object]:
        """Return the context in which the tower runs."""


@dataclass(frozen=True, eq=False)
class _Slot:
    """Memory and events of one batch in flight."""

    pixels: Tensor  # on the host
    on_device: Tensor
    features: Tensor  # on the host
    copied: Event
    done: Event


class ShapedRunner:
    """Runs recorded forward passes, so that a batch is one launch instead of hundreds.

    A recording reads and writes fixed addresses, so each runner has a copy of the tower, one input, and one output per
    shape.

    Args:
        visual: The tower, on the device.
        preprocess: Of its base.
        device: Records and runs.
        dtype: To compute in.
    """

    depth = 2
    image_seconds = 0.0
    can_share = False

    def __init__(self, visual: nn.Module, preprocess: Preprocess, device: Device, dtype: torch.dtype) -> None:
        self.is_exact = dtype is torch.float32
        self._device = device
        self._dtype = dtype
        self._visual = copy.deepcopy(visual).to(dtype).eval()
        self._mean = torch.tensor(preprocess.mean, device=device.where).view(1, 3, 1, 1)
        self._std = torch.tensor(preprocess.std, device=device.where).view(1, 3, 1, 1)
        shape = (SHAPES[-1], preprocess.size, preprocess.size, 3)
        self._input = torch.zeros(shape, dtype=torch.uint8, device=device.where)
        copied = (*self._visual.parameters(), *self._visual.buffers(), self._input)
        self.num_bytes = sum(tensor.nbytes for tensor in copied)
        with torch.inference_mode():  # the largest first: the others share its memory
            self._recorded = {size: device.record(self._forward_of(size)) for size in reversed(SHAPES)}
        width = self._recorded[1][1].shape[1]
        self._slots = [self._slot(width) for _ in range(self.depth)]
        self._turn = 0

    def widen(self) -> None:
        """Do nothing: a GPU shares a batch among its own cores."""

    def stage(self, num_images: int) -> Tensor:
        """Return memory of the host for a batch."""
        return self._slots[self._turn].pixels[:num_images]

    def submit(self, staged: Tensor) -> Result:
        """Send the pixels, repeat the forward pass of the next larger shape, and fetch the features."""
        slot, num_images = self._slots[self._turn], len(staged)
        self._turn = (self._turn + 1) % self.depth
        with torch.inference_mode():
            with self._device.copying():
                slot.on_device[:num_images].copy_(staged, non_blocking=True)
                slot.copied.record()
            with self._device.computing():
                slot.copied.wait()
                self._input[:num_images].copy_(slot.on_device[:num_images])  # rows beyond hold old pixels
                repeat, output = self._recorded[shape_for(num_images)]
                repeat()
                slot.features[:num_images].copy_(output[:num_images], non_blocking=True)
                slot.done.record()

        def result() -> NDArray[np.float32]:
            slot.done.synchronize()
            return slot.features[:num_images].numpy().copy()

        return result

    def _slot(self, width: int) -> _Slot:
        pixels = self._device.host(tuple(self._input.shape), torch.uint8)
        features = self._device.host((SHAPES[-1], width), torch.float32)
        return _Slot(pixels, torch.empty_like(self._input), features, self._device.event(), self._device.event())

    def _forward_of(self, shape: int) -> Callable[[], Tensor]:
        def forward() -> Tensor:
            pixels = self._input[:shape].permute(0, 3, 1, 2).to(torch.float32).div(255)
            features = self._visual(((pixels - self._mean) / self._std).to(self._dtype))
            return F.normalize(features.float(), dim=-1)

        return forward
