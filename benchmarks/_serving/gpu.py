"""On a GPU: the engine's images a second over those of the bare captured forward of the same tower, in bfloat16."""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from _serving.bodies import group
from app.models.served_model import ServedModel
from app.serving.batch_policy import BatchPolicy
from app.serving.engine import Engine
from app.serving.model import MAX_BATCH_IMAGES
from app.serving.request import Answer, InferenceRequest
from app.settings import num_cores
from paint_core.models import BaseModel

_IN_FLIGHT = 4
"""Batches that are asked for ahead of the one that is waited for."""


@dataclass(frozen=True)
class OnGpu:
    """Images a second.

    Attributes:
        raw: Of the captured forward, its input on the device already.
        decoded: Of the engine, given pixels in ordinary memory.
        jpeg: Of the engine, given files.
        swap_seconds: From a tower on the device to one that is captured and warm.
    """

    raw: float
    decoded: float
    jpeg: float
    swap_seconds: float


def measure(base: BaseModel, photos: Sequence[bytes], seconds: float, rounds: int) -> OnGpu:
    """Return what one base does, in turns.

    Args:
        base: On a CUDA device.
        photos: Encoded photographs.
        seconds: Of each measurement.
        rounds: How many of each.
    """
    started = time.perf_counter()
    model = ServedModel(1, base, base.visual)
    _ = model.runner  # captures
    torch.cuda.synchronize()
    swap_seconds = time.perf_counter() - started
    pixels = torch.randint(0, 256, (MAX_BATCH_IMAGES, base.image_size, base.image_size, 3), dtype=torch.uint8)
    raw, engine = (
        _raw(base),
        Engine(
            decode_threads=num_cores(),
            max_queue_images=1 << 20,
            policy=BatchPolicy.for_device(base.device, num_cores()),
        ),
    )
    groups = itertools.cycle(list(group(photos, MAX_BATCH_IMAGES)))
    ways: dict[str, Callable[[], float]] = {
        "raw": lambda: _rate_of_raw(raw, seconds),
        "decoded": lambda: _rate(engine, lambda: InferenceRequest(model, pixels.numpy()), seconds),
        "jpeg": lambda: _rate(engine, lambda: InferenceRequest.of_images(model, next(groups)), seconds),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            found[way].append(run())
    engine.close()
    raw_rate, decoded, jpeg = (statistics.median(values) for values in found.values())
    return OnGpu(raw_rate, decoded, jpeg, swap_seconds)


def _raw(base: BaseModel) -> torch.cuda.CUDAGraph:
    """The forward of a full batch as one graph, whose input lies on the device."""
    visual = copy.deepcopy(base.visual).bfloat16().eval()
    side = base.image_size
    batch = torch.zeros((MAX_BATCH_IMAGES, 3, side, side), dtype=torch.bfloat16, device=base.device)

    def forward() -> Tensor:
        return F.normalize(visual(batch).float(), dim=-1)

    with torch.inference_mode():
        stream = torch.cuda.Stream(base.device)
        with torch.cuda.stream(stream):
            for _ in range(3):
                forward()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            forward()
    return graph


def _rate_of_raw(graph: torch.cuda.CUDAGraph, seconds: float) -> float:
    torch.cuda.synchronize()
    start, num_batches = time.perf_counter(), 0
    while (now := time.perf_counter()) - start < seconds:
        for _ in range(_IN_FLIGHT):
            graph.replay()
        torch.cuda.synchronize()
        num_batches += _IN_FLIGHT
    return num_batches * MAX_BATCH_IMAGES / (now - start)


def _rate(engine: Engine, next_work: Callable[[], InferenceRequest], seconds: float) -> float:
    waiting: deque[Future[Answer]] = deque()

    def ask() -> None:
        request = next_work()
        engine._workers.put(request)
        waiting.append(request.answer)

    for _ in range(_IN_FLIGHT):
        ask()
    waiting.popleft().result()
    start, num_batches = time.perf_counter(), 0
    while (now := time.perf_counter()) - start < seconds:
        ask()
        waiting.popleft().result()
        num_batches += 1
    for answer in waiting:
        answer.result()
    return num_batches * MAX_BATCH_IMAGES / (now - start)
