"""How an image tower is run: by ONNX Runtime or PyTorch on a CPU, as captured CUDA graphs on a GPU."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from app.serving.model import MAX_BATCH_IMAGES, Result, Runner
from paint_core.config.precision import ServingPrecision
from paint_core.images.preprocess import Preprocess
from paint_core.models import BaseModel
from paint_core.programs import Forward, Program

SHAPES = (1, 2, 4, 8, 16, 32, MAX_BATCH_IMAGES)
"""Batch sizes that are captured; a batch between two of them is padded to the larger one."""

_WARM_UPS = 3
_TIMED_IMAGES, _TIMED_ROUNDS = 4, 4
_LEAST_SHARED_SECONDS = 0.005
"""Of an image on one core: below, several cores are hardly faster, and a second session is not worth its memory."""


class TowerRunner(Runner, Protocol):
    """A runner, with what the loader and the cache need to know."""

    is_exact: bool
    """Whether it computes in float32, as the tower itself does."""
    num_bytes: int
    """Memory that it takes in addition to the tower and what a forward pass takes."""


def shape_for(num_images: int) -> int:
    """Return the captured batch size for so many images, at most the largest of `SHAPES`."""
    return next(shape for shape in SHAPES if shape >= num_images)


def build_runner(
    visual: nn.Module,
    base: BaseModel,
    precision: ServingPrecision = "fp32",
    program: Program | None = None,
    num_cores: int = 1,
) -> TowerRunner:
    """Return a warm runner; on a GPU this captures all shapes, which takes seconds.

    `visual`, in float32 on the device of its base, is not changed, and must not be while the runner lives.

    Args:
        precision: `bf16` computes with a copy of the weights in bfloat16, `int8` with matrices in 8 bits.
        program: Of the base's tower; None: PyTorch runs it. `int8` needs one.
        num_cores: CPU cores that a long forward pass may take.

    Raises:
        RuntimeError: The tower does not compute in this precision.
    """
    if base.device.type == "cuda":
        return CudaGraphRunner(visual, base.preprocess, base.device, precision)
    visual = visual.eval()
    if program is None or precision == "bf16":
        if precision == "int8":
            raise RuntimeError("int8 needs ONNX Runtime")
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        num_bytes = 0 if precision == "fp32" else _num_values(visual) * dtype.itemsize
        plain = _plain_forward(visual, base.preprocess, dtype)
        return CpuRunner(plain, base.image_size, num_bytes, is_exact=precision == "fp32", wide=plain)
    narrow = program.forward(visual, precision)
    num_bytes = program.num_bytes(visual, precision)
    runner = CpuRunner(narrow, base.image_size, num_bytes, is_exact=precision == "fp32")
    if num_cores > 1 and _seconds_an_image(runner) >= _LEAST_SHARED_SECONDS:
        wide = program.forward(visual, precision, num_cores)
        runner = CpuRunner(narrow, base.image_size, 2 * num_bytes, is_exact=precision == "fp32", wide=wide)
    return runner


def measure_seconds(
    base: BaseModel, precisions: Mapping[ServingPrecision, Program | None]
) -> dict[ServingPrecision, float]:
    """Return how much processor time an image of a base takes in each precision, with its program, on a CPU.

    A precision that the tower does not compute in is left out.
    """
    runners: dict[ServingPrecision, TowerRunner] = {}
    for precision, program in precisions.items():
        try:
            runner = build_runner(base.visual, base, precision, program)
            runner.submit(_no_images(base.image_size))()
        except RuntimeError:  # it has a layer that does not compute in it
            continue
        runners[precision] = runner
    for _ in range(_TIMED_ROUNDS):  # in turns; a runner remembers the fastest
        for runner in runners.values():
            runner.submit(_no_images(base.image_size))()
    return {precision: runner.image_seconds for precision, runner in runners.items()}


def _no_images(side: int) -> Tensor:
    return torch.zeros((_TIMED_IMAGES, side, side, 3), dtype=torch.uint8)


def _seconds_an_image(runner: CpuRunner) -> float:
    for _ in range(2):  # the first one is slower
        runner.submit(runner.stage(1).zero_())()
    return runner.image_seconds


def _num_values(visual: nn.Module) -> int:
    return sum(tensor.numel() for tensor in (*visual.parameters(), *visual.buffers()))


def _plain_forward(visual: nn.Module, preprocess: Preprocess, dtype: torch.dtype) -> Forward:
    """Return what runs a tower in PyTorch, with its weights cast once."""
    tower = visual if dtype is torch.float32 else copy.deepcopy(visual).to(dtype)

    def forward(images: Tensor) -> Tensor:
        return F.normalize(tower(preprocess.normalise(images).to(dtype)).float(), dim=-1)

    return forward


class CpuRunner:
    """Runs a tower without padding, since every row costs time on a CPU.

    Args:
        forward: Of the tower, on one core.
        side: S.
        num_bytes: Memory that it takes beside the tower.
        is_exact: Whether it computes in float32.
        wide: The same on several cores; None: it takes one only.
    """

    depth = 1

    def __init__(
        self, forward: Forward, side: int, num_bytes: int = 0, *, is_exact: bool = True, wide: Forward | None = None
    ) -> None:
        self.is_exact = is_exact
        self.num_bytes = num_bytes
        self.can_share = wide is not None
        self._forward = forward
        self._wide = wide or forward
        self._side = side
        self.image_seconds = math.inf  # until the first forward, which checks a version that is being loaded

    def stage(self, num_images: int) -> Tensor:
        """Return memory for a batch."""
        return torch.empty((num_images, self._side, self._side, 3), dtype=torch.uint8)

    def submit(self, staged: Tensor) -> Result:
        """Run the forward pass; the result is there when this returns."""
        num_cores = torch.get_num_threads()
        forward = self._forward if num_cores == 1 else self._wide
        start = time.thread_time()  # does not count what others take of the core meanwhile
        with torch.inference_mode():
            features = forward(staged).numpy()
        seconds = num_cores * (time.thread_time() - start) / len(staged)
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
    can_share = False

    def __init__(
        self, visual: nn.Module, preprocess: Preprocess, device: torch.device, precision: ServingPrecision
    ) -> None:
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
