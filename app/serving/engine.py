"""The engine: from encoded images and labels to cosines, by whatever model a request names.

A request holds one reference to its model from start to end, so swapping versions does not affect it. The event loop
waits once per request; worker threads decode, forward and compare.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.http.admission import Admission
from app.http.deadlines import until
from app.http.errors import ImageRefusedError
from app.serving.batch import BatchRunner
from app.serving.batch_policy import BatchPolicy
from app.serving.cpu_workers import CpuWorkers
from app.serving.gpu_workers import GpuWorkers
from app.serving.head_cache import CPU_SLICE_TEXTS, DEVICE_SLICE_TEXTS, HeadCache
from app.serving.health import Health
from app.serving.model import Model
from app.serving.request import Answer, Correction, InferenceRequest
from paint_core.images.decoding import DEFAULT_MAX_PIXELS
from paint_core.images.headers import read_header
from pipeline.tracing import NO_TRACING, Step, Tracing

_UNKNOWN_MEGAPIXELS = 1.0
Labels = tuple[str, ...]


class Scored(NamedTuple):
    """How well each label fits each image.

    Attributes:
        pixels: The images as the model got them: uint8 [B, S, S, 3].
        features: float32 [B, D], unit rows.
        cosines: float32 [B, C], in [-1, 1]; `app.inference.scoring` makes scores of them.
        timing_ms: Milliseconds by step.
    """

    pixels: NDArray[np.uint8]
    features: Tensor
    cosines: Tensor
    timing_ms: dict[str, float]


class Engine:
    """Decodes, forwards and compares, for any number of models at once.

    The methods that answer requests take `caller`, by whom requests take turns, and `deadline`, a time of
    `time.monotonic()` (None: no deadline). They raise `QueueFullError` if too much is waiting, `DeadlineExceededError`,
    and `ImageRefusedError` for the first image that cannot be decoded.

    Args:
        decode_threads: Threads that decode images, and on a CPU forward them, too.
        max_queue_images: Images that may be in the engine at once.
        max_queue_texts: Texts that may wait for the text tower at once, including those of heads.
        max_queue_megapixels: Limit on the summed decoding cost of the images in the engine.
        max_image_pixels: Largest image, in pixels.
        on_batch: Called with the number of images of each forward pass.
        policy: How large batches are; None: the default of a CPU.
        head_cache_bytes: Memory for cached heads.
        on_fatal: Called with an error after which the device cannot be used any more.
        tracing: Records the steps of each request.
    """

    def __init__(
        self,
        *,
        decode_threads: int,
        max_queue_images: int,
        max_queue_texts: int = 40_000,
        max_queue_megapixels: int = 2_000,
        max_image_pixels: int = DEFAULT_MAX_PIXELS,
        on_batch: Callable[[int], object] = int,
        policy: BatchPolicy | None = None,
        head_cache_bytes: int = 256 << 20,
        on_fatal: Callable[[Exception], object] = repr,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._tracing = tracing
        self.admission = Admission(max_queue_images)
        self.health = Health(on_fatal)
        self.is_draining = False  # set when the process is about to stop: new requests should go elsewhere
        self._max_kilopixels = 1000 * max_queue_megapixels
        self._kilopixels = Admission(self._max_kilopixels, "megapixels", unit=1000)
        self._max_image_pixels = max_image_pixels
        policy = policy or BatchPolicy.for_device(torch.device("cpu"), decode_threads)
        self._is_cpu = policy.num_cores > 0
        runner = BatchRunner(on_batch, self.health)
        self._workers: CpuWorkers | GpuWorkers = (
            CpuWorkers(policy, runner) if self._is_cpu else GpuWorkers(policy, decode_threads, runner)
        )
        self.heads = HeadCache(
            max_queue_texts,
            decode_threads,
            slice_texts=CPU_SLICE_TEXTS if self._is_cpu else DEVICE_SLICE_TEXTS,
            max_bytes=head_cache_bytes,
            on_error=self.health.check,
        )
        self._probe: InferenceRequest | None = None

    @property
    def is_busy(self) -> bool:
        """Whether requests need CPU cores, now or in a moment: other work should leave the cores to them."""
        return self._is_cpu and (self.admission.is_busy or self.heads.admission.is_busy)

    async def score(
        self,
        model: Model,
        images: Sequence[bytes],
        classnames: Labels,
        templates: Labels,
        *,
        correct: Correction | None = None,
        caller: str = "",
        deadline: float | None = None,
    ) -> Scored:
        """Return the cosine of each of B encoded images with each of C labels; `HeadError` if no head can be built.

        `correct` is what the model's head terms make of them, if any.
        """
        start = time.perf_counter()
        with self._admit(model, images, caller, deadline) as request:
            request.head = self.heads.get(model.base, classnames, templates, request.answer, caller)
            request.correct = correct
            answer = await self.answer(request)
        assert answer.cosines is not None
        if self._tracing.is_on:
            self._tracing.record(_steps(request, start))
        return Scored(request.pixels, answer.features, answer.cosines, _timing(request, start))

    async def embed_images(
        self, model: Model, images: Sequence[bytes], *, caller: str = "", deadline: float | None = None
    ) -> Tensor:
        """Return the unit features of encoded images: float32 [B, D]."""
        start = time.perf_counter()
        with self._admit(model, images, caller, deadline) as request:
            features = (await self.answer(request)).features
        if self._tracing.is_on:
            self._tracing.record(_steps(request, start)[:-1])
        return features

    async def embed_texts(
        self, model: Model, texts: Sequence[str], *, caller: str = "", deadline: float | None = None
    ) -> Tensor:
        """Return the unit features of texts, without a template around them: float32 [B, D]."""
        embeddings = self.heads.embed(model.base, texts, caller)
        async with until(deadline, lambda: f"{len(texts)} texts were waiting for the model"):
            return await asyncio.wrap_future(embeddings)  # cancelled with the caller, and then it is given up

    def probe(self, model: Model) -> None:
        """Forward an empty image, unless one is in flight, so that a failed model can recover without a request."""
        if self._probe is None or self._probe.answer.done():
            side = model.base.image_size
            self._probe = InferenceRequest(model, np.zeros((1, side, side, 3), np.uint8))
            self._workers.put(self._probe)

    def close(self) -> None:
        """Finish what is decoded and stop every thread."""
        self._workers.close()
        self.heads.close()

    @contextmanager
    def _admit(
        self, model: Model, images: Sequence[bytes], caller: str, deadline: float | None
    ) -> Iterator[InferenceRequest]:
        """Yield the request for images, which count for the limits of the queue while the context lasts."""
        costs = [self._cost(index, image) for index, image in enumerate(images)]
        kilopixels = min(math.ceil(1000 * sum(costs)), self._max_kilopixels)
        with self.admission.hold(len(images), caller), self._kilopixels.hold(kilopixels, caller):
            yield InferenceRequest.of_images(
                model, images, deadline=deadline, caller=caller, costs=costs, max_pixels=self._max_image_pixels
            )

    def _cost(self, index: int, image: bytes) -> float:
        """Return the decoding cost of an image in megapixels; `ImageRefusedError` if it is too large."""
        header = read_header(image)
        if header is None:
            return _UNKNOWN_MEGAPIXELS
        if header.pixels > self._max_image_pixels:
            size = f"{header.width} x {header.height} is more than {self._max_image_pixels:,} pixels"
            raise ImageRefusedError(
                "image_undecodable", index, f"cannot be decoded ({size})", "Reduce the size of the image."
            )
        return header.work

    async def answer(self, request: InferenceRequest) -> Answer:
        """Return the answer to a request that takes no place in the queue, such as one of low priority."""
        self._workers.put(request)
        async with until(request.deadline, request.waits_for):
            return await asyncio.wrap_future(request.answer)  # cancelled with the caller, and then it is abandoned


def _steps(request: InferenceRequest, start: float) -> list[Step]:
    """Return the steps of a request that has been answered: queue, decode, forward, and the wait for its labels."""
    times = (start, request.began_at or request.decoded_at, request.decoded_at, request.forwarded_at)
    ends = (*times[1:], time.perf_counter())
    return [Step(*step) for step in zip(("queue", "decode", "forward", "labels"), times, ends, strict=True)]


def _timing(request: InferenceRequest, start: float) -> dict[str, float]:
    """Return milliseconds per step; `text` is the time spent waiting for the head after the forward pass."""
    now = time.perf_counter()
    seconds = {
        "decode": request.decoded_at - start,
        "text": now - request.forwarded_at,
        "model": request.forwarded_at - request.decoded_at,
        "total": now - start,
    }
    return {step: round(1000 * value, 3) for step, value in seconds.items()}
