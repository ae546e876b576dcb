"""How an image tower is run: traced on a CPU, as captured CUDA graphs of a few batch sizes on a GPU."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from app.models.traced import Forward, trace_forward
from app.serving.model import MAX_BATCH_IMAGES, Result, Runner
from paint_core.config.precision import Precision
from paint_core.images.preprocess import Preprocess
from paint_core.models import BaseModel

SHAPES = (1, 2, 4, 8, 16, 32, MAX_BATCH_IMAGES)
"""Batch sizes that are captured; a batch between two of them is padded to the larger one."""

_WARM_UPS = 3
_TIMED_IMAGES, _TIMED_ROUNDS = 4, 4


class TowerRunner(Runner, Protocol):
    """A runner, with what the loader and the cache need to know."""

    is_exact: bool
    """Whether it computes in float32, as the tower itself does."""
    num_bytes: int
    """Memory that it takes in addition to the tower and what a forward pass takes."""


def shape_for(num_images: int) -> int:
    """Return the captured batch size for so many images, at most the largest of `SHAPES`."""
    return next(shape for shape in SHAPES if shape >= num_images)


def build_runner(visual: nn.Module, base: BaseModel, precision: Precision = "fp32") -> TowerRunner:
    """Return a warm runner; on a GPU this captures all shapes, which takes seconds.

    `visual`, in float32 on the device of its base, is not changed, and must not be while the runner lives.

    Args:
        precision: `bf16` computes with a copy of the weights in bfloat16.
    """
    if base.device.type == "cuda":
        return CudaGraphRunner(visual, base.preprocess, base.device, precision)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    forward = trace_forward(visual.eval(), base.visual, base.preprocess, dtype)
    return CpuRunner(forward, base.preprocess.size, 0 if precision == "fp32" else _num_bytes(visual, dtype))


def _num_bytes(visual: nn.Module, dtype: torch.dtype) -> int:
    return sum(tensor.numel() for tensor in (*visual.parameters(), *visual.buffers())) * dtype.itemsize


def measure_speedup(base: BaseModel, precision: Precision) -> float:
    """Return how much less processor time a base's tower takes in a precision than in float32, on a CPU."""
    images = torch.zeros((_TIMED_IMAGES, base.image_size, base.image_size, 3), dtype=torch.uint8)
    runners = [build_runner(base.visual, base, each) for each in ("fp32", precision)]
    for _ in range(_TIMED_ROUNDS):  # the first round warms up; a runner remembers the fastest
        for runner in runners:
            runner.submit(images)()
    exact, lower = (runner.image_seconds for runner in runners)
    return exact / lower


class CpuRunner:
    """Runs a tower without padding, since every row costs time on a CPU.

    Args:
        forward: Of the tower.
        side: S.
        num_bytes: Of the copy of the weights that it computes with in another arithmetic than float32; 0: none.
    """

    depth = 1

    def __init__(self, forward: Forward, side: int, num_bytes: int = 0) -> None:
        self.is_exact = num_bytes == 0
        self.num_bytes = num_bytes
        self._forward = forward
        self._side = side
        self.image_seconds = math.inf  # until the first forward, which checks a version that is being loaded

    def stage(self, num_images: int) -> Tensor:
        """Return memory for a batch."""
        return torch.empty((num_images, self._side, self._side, 3), dtype=torch.uint8)

    def submit(self, staged: Tensor) -> Result:
        """Run the forward pass; the result is there when this returns."""
        start = time.thread_time()  # does not count what others take of the core meanwhile
        with torch.inference_mode():
            features = self._forward(staged).numpy()
        seconds = torch.get_num_threads() * (time.thread_time() - start) / len(staged)
        self.image_seconds = min(self.image_seconds, seconds)
        return lambda: features


@dataclass(frozen=True, eq=False)
class _Slot:
    """Memory and events of one batch in flight."""

    pixels: Tensor  # pinned
    on_device: Tensor
    features: Tensor  # pinned
    copied: torch.cuda.Event
    done: torch.cuda.Event


class CudaGraphRunner:
    """Runs a tower as captured CUDA graphs, so that a forward pass is one launch instead of hundreds.

    A graph reads and writes fixed addresses, so each runner has a copy of the tower, one input, and one output per
    shape. Pixels are copied on a stream of their own while the device computes the previous batch.

    Args:
        visual: The tower, on the device.
        preprocess: Of its base.
        device: A CUDA device.
        precision: `bf16` runs a copy of the tower in bfloat16.
    """

    depth = 2
    image_seconds = 0.0

    def __init__(self, visual: nn.Module, preprocess: Preprocess, device: torch.device, precision: Precision) -> None:
        self.is_exact = precision != "bf16"
        self._dtype = torch.float32 if self.is_exact else torch.bfloat16
        self._visual = copy.deepcopy(visual).to(self._dtype).eval()
        self._mean = torch.tensor(preprocess.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(preprocess.std, device=device).view(1, 3, 1, 1)
        self._device = device
        self._side = preprocess.size
        self._computing, self._copying = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]
        self._input = torch.zeros((SHAPES[-1], self._side, self._side, 3), dtype=torch.uint8, device=device)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        copied = (*self._visual.parameters(), *self._visual.buffers(), self._input)
        self.num_bytes = sum(tensor.nbytes for tensor in copied)
        self._capture()
        width = self._graphs[1][1].shape[1]
        self._slots = [self._slot(width) for _ in range(self.depth)]
        self._turn = 0

    def stage(self, num_images: int) -> Tensor:
        """Return pinned memory for a batch."""
        return self._slots[self._turn].pixels[:num_images]

    def submit(self, staged: Tensor) -> Result:
        """Copy the pixels to the device, replay the graph of the next larger shape, and copy the features back."""
        slot, num_images = self._slots[self._turn], len(staged)
        self._turn = (self._turn + 1) % self.depth
        graph, output = self._graphs[shape_for(num_images)]
        with torch.cuda.stream(self._copying):
            slot.on_device[:num_images].copy_(staged, non_blocking=True)
            slot.copied.record()
        with torch.cuda.stream(self._computing):
            slot.copied.wait()
            self._input[:num_images].copy_(slot.on_device[:num_images])  # rows beyond hold old pixels
            graph.replay()
            slot.features[:num_images].copy_(output[:num_images], non_blocking=True)
            slot.done.record()

        def result() -> NDArray[np.float32]:
            slot.done.synchronize()
            return slot.features[:num_images].numpy().copy()

        return result

    def _slot(self, width: int) -> _Slot:
        pixels = torch.empty(self._input.shape, dtype=torch.uint8, pin_memory=True)
        features = torch.empty((SHAPES[-1], width), dtype=torch.float32, pin_memory=True)
        copied, done = torch.cuda.Event(), torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        return _Slot(pixels, torch.empty_like(self._input), features, copied, done)

    def _capture(self) -> None:
        """Capture the largest shape first; the others share its memory, since graphs never run at the same time."""
        pool = torch.cuda.graph_pool_handle()
        torch.cuda.synchronize(self._device)  # the copy of the tower was made on another stream
        with torch.cuda.device(self._device), torch.inference_mode():
            for shape in reversed(SHAPES):
                with torch.cuda.stream(self._computing):
                    for _ in range(_WARM_UPS):  # libraries choose their kernels and allocate what they keep
                        self._forward(shape)
                self._computing.synchronize()
                graph = torch.cuda.CUDAGraph()
                # "thread_local": other threads go on using the device meanwhile, for the version that is served.
                with torch.cuda.graph(graph, pool=pool, stream=self._computing, capture_error_mode="thread_local"):
                    output = self._forward(shape)
                self._graphs[shape] = (graph, output)

    def _forward(self, shape: int) -> Tensor:
        pixels = self._input[:shape].permute(0, 3, 1, 2).to(torch.float32).div(255)
        features = self._visual(((pixels - self._mean) / self._std).to(self._dtype))
        return F.normalize(features.float(), dim=-1)
