"""How a version's image tower is run: as one program on a CPU, as captured graphs of few shapes on a GPU."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from app.serving.traced import Forward, trace_forward
from paint_core.config.precision import Precision, resolve_precision
from paint_core.images.preprocess import Preprocess

SHAPES = (1, 2, 4, 8, 16, 32, 64)
"""Batch sizes that are captured; a batch between two of them is padded to the larger one."""

_WARM_UPS = 3
Result = Callable[[], NDArray[np.float32]]
"""Waits for a batch and returns its unit features [B, D]; to be called once."""


class Runner(Protocol):
    """Runs one image tower: on a CPU for any threads at once, on a GPU for the one that owns it."""

    depth: int
    """Batches that a thread may have under way: more must not be staged before the first has landed."""
    image_seconds: float
    """What an image costs one core, about; 0: the cores do not forward."""
    is_exact: bool
    """Whether it computes in float32, as the tower itself does."""
    num_bytes: int
    """Memory that it takes beside the tower's and what a forward takes."""

    def stage(self, num_images: int) -> Tensor:
        """Return memory for a batch, uint8 [num_images, S, S, 3], to be filled and given to `submit`."""

    def submit(self, staged: Tensor) -> Result:
        """Start the forward of what was staged last; what comes back waits for it."""


def shape_for(num_images: int) -> int:
    """Return the captured batch size for so many images, at most the largest of `SHAPES`."""
    return next(shape for shape in SHAPES if shape >= num_images)


def build_runner(visual: nn.Module, pattern: nn.Module, preprocess: Preprocess, device: torch.device) -> Runner:
    """Return what runs a tower on its device; on a GPU that captures all shapes, which takes seconds.

    Args:
        visual: The tower, on the device, in float32; it is not changed, and must not be while the runner lives.
        pattern: The tower of its base, for what all versions of a base can share.
        preprocess: Of its base.
        device: Where it is.

    Returns:
        A runner that is warm.
    """
    if device.type == "cuda":
        return CudaGraphRunner(visual, preprocess, device, resolve_precision("auto", device))
    return CpuRunner(trace_forward(visual.eval(), pattern, preprocess), preprocess.size)


class CpuRunner:
    """Runs a tower in float32, without padding: on a CPU every row costs, and no submit does.

    Args:
        forward: Of the tower.
        side: S.
    """

    depth = 1
    is_exact = True
    num_bytes = 0

    def __init__(self, forward: Forward, side: int) -> None:
        self._forward = forward
        self._side = side
        self.image_seconds = math.inf  # until the first forward, which is the check of a version that is loaded

    def stage(self, num_images: int) -> Tensor:
        """Return memory for a batch."""
        return torch.empty((num_images, self._side, self._side, 3), dtype=torch.uint8)

    def submit(self, staged: Tensor) -> Result:
        """Do the forward; it has landed when this returns."""
        start = time.thread_time()  # not what others take of the core meanwhile
        with torch.inference_mode():
            features = self._forward(staged).numpy()
        seconds = torch.get_num_threads() * (time.thread_time() - start) / len(staged)
        self.image_seconds = min(self.image_seconds, seconds)
        return lambda: features


@dataclass(frozen=True, eq=False)
class _Slot:
    """Memory and marks of one batch that is under way."""

    pixels: Tensor  # pinned
    on_device: Tensor
    features: Tensor  # pinned
    copied: torch.cuda.Event
    done: torch.cuda.Event


class CudaGraphRunner:
    """Runs a tower as captured CUDA graphs, so that a forward is one submit instead of hundreds.

    A graph reads and writes fixed addresses. So each runner has a tower of its own, which nobody assigns to, one input
    and one output a shape; a swap builds another runner. Pixels travel on a stream of their own, while the device
    computes the batch before.

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
        """Send the pixels, replay the graph of the next larger shape, and have the features sent back."""
        slot, num_images = self._slots[self._turn], len(staged)
        self._turn = (self._turn + 1) % self.depth
        graph, output = self._graphs[shape_for(num_images)]
        with torch.cuda.stream(self._copying):
            slot.on_device[:num_images].copy_(staged, non_blocking=True)
            slot.copied.record()
        with torch.cuda.stream(self._computing):
            slot.copied.wait()
            self._input[:num_images].copy_(slot.on_device[:num_images])  # rows beyond keep old pixels: nobody reads on
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
        """Capture the largest shape first, whose memory the others reuse: their graphs never run at once."""
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
