"""How an image tower is run: by ONNX Runtime or PyTorch on a CPU, as captured CUDA graphs on a GPU."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from app.models.cuda import CudaDevice
from app.models.shaped import ShapedRunner
from app.serving.model import Result, Runner
from paint_core.config.precision import ServingPrecision
from paint_core.images.preprocess import Preprocess
from paint_core.models import BaseModel
from paint_core.programs import Forward, Program

_TIMED_IMAGES, _TIMED_ROUNDS = 4, 4
_LEAST_SHARED_SECONDS = 0.005
"""Of an image on one core: below, several cores are hardly faster, and a second session is not worth its memory."""


class TowerRunner(Runner, Protocol):
    """A runner, with what the loader and the cache need to know."""

    is_exact: bool
    """Whether it computes in float32, as the tower itself does."""
    num_bytes: int
    """Memory that it takes in addition to the tower and what a forward pass takes."""

    def widen(self) -> None:
        """Prepare what takes several cores, before the runner serves; its threads keep the caller's priority."""


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
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        return ShapedRunner(visual, base.preprocess, CudaDevice(base.device), dtype)
    visual = visual.eval()
    if program is None or precision == "bf16":
        if precision == "int8":
            raise RuntimeError("int8 needs ONNX Runtime")
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        num_bytes = 0 if precision == "fp32" else _num_values(visual) * dtype.itemsize
        plain = _plain_forward(visual, base.preprocess, dtype)
        return CpuRunner(plain, base.image_size, num_bytes, is_exact=precision == "fp32", wide=plain)
    return CpuRunner(
        program.forward(visual, precision),
        base.image_size,
        program.num_bytes(visual, precision),
        is_exact=precision == "fp32",
        open_wide=partial(program.forward, visual, precision, num_cores) if num_cores > 1 else None,
    )


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
        wide: The same on several cores; None: it takes one only until it is widened.
        open_wide: Opens the same on several cores, with `num_bytes` of its own.
    """

    depth = 1

    def __init__(
        self,
        forward: Forward,
        side: int,
        num_bytes: int = 0,
        *,
        is_exact: bool = True,
        wide: Forward | None = None,
        open_wide: Callable[[], Forward] | None = None,
    ) -> None:
        self.is_exact = is_exact
        self.num_bytes = num_bytes
        self.can_share = wide is not None
        self._forward = forward
        self._wide = wide or forward
        self._open_wide = open_wide
        self._side = side
        self.image_seconds = math.inf  # until the first forward, which checks a version that is being loaded

    def widen(self) -> None:
        """Open the forward function on several cores if images take long enough."""
        if self._open_wide is None:
            return
        for _ in range(2):  # the first one is slower
            self.submit(self.stage(1).zero_())()
        if self.image_seconds >= _LEAST_SHARED_SECONDS:
            self._wide, self.can_share = self._open_wide(), True
            self.num_bytes *= 2
        self._open_wide = None

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
