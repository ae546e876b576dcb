"""The engine: from encoded images and labels to cosines, by whatever version is being served.

A request takes one reference to the served model at its start and keeps it, so a swap meanwhile changes nothing for it.
The event loop waits once per request; worker threads decode, forward and compare.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.http.deadlines import until
from app.http.errors import ImageRefusedError, ModelNotLoadedError
from app.serving.admission import Admission
from app.serving.cpu_workers import CpuWorkers
from app.serving.gpu_workers import GpuWorkers
from app.serving.heads import HeadCache
from app.serving.health import Health
from app.serving.image_queue import BatchPolicy
from app.serving.model import ServedModel
from app.serving.request import Answer, InferenceRequest
from app.serving.texts import CPU_SLICE_TEXTS, DEVICE_SLICE_TEXTS, Build, TextQueue
from paint_core.images.decoding import DEFAULT_MAX_PIXELS
from paint_core.images.headers import read_header

_UNKNOWN_MEGAPIXELS = 1.0


@dataclass(frozen=True, eq=False)
class Scored:
    """How well each label fits each image.

    Attributes:
        pixels: The images as the model got them: uint8 [B, S, S, 3].
        features: float32 [B, D], unit rows.
        cosines: float32 [B, C], in [-1, 1]; `app.serving.scoring` makes scores of them.
        timing_ms: Milliseconds by step.
    """

    pixels: NDArray[np.uint8]
    features: Tensor
    cosines: Tensor
    timing_ms: dict[str, float]


class Engine:
    """Serves one version, and holds secondary ones (canary, shadow) by their aliases.

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
    ) -> None:
        self.admission = Admission(max_queue_images)
        self._max_kilopixels = 1000 * max_queue_megapixels
        self._kilopixels = Admission(self._max_kilopixels, "megapixels", unit=1000)
        self._max_image_pixels = max_image_pixels
        self.health = Health(on_fatal)
        policy = policy or BatchPolicy.for_device(torch.device("cpu"), decode_threads)
        self._is_cpu = policy.num_cores > 0
        self._workers: CpuWorkers | GpuWorkers
        if self._is_cpu:
            self._workers = CpuWorkers(policy, on_batch, self.health)
        else:
            self._workers = GpuWorkers(policy, decode_threads, on_batch, self.health)
        slice_texts = CPU_SLICE_TEXTS if self._is_cpu else DEVICE_SLICE_TEXTS
        self.texts = TextQueue(max_queue_texts, decode_threads, slice_texts, self.health.look_at)
        self.heads = HeadCache(self.texts, head_cache_bytes)
        self._probe: InferenceRequest | None = None
        self._served: ServedModel | None = None
        self._secondary: dict[str, ServedModel] = {}
        self._last_error = "the process is starting."
        self._is_draining = False

    @property
    def has_pending(self) -> bool:
        """Whether requests need CPU cores now: other work should leave the cores to them."""
        return self._is_cpu and (self.admission.num_images > 0 or self.texts.num_texts > 0)

    @property
    def is_draining(self) -> bool:
        """Whether the process is about to stop: requests are still answered, but new ones should go elsewhere."""
        return self._is_draining

    def drain(self) -> None:
        """Report that the process is about to stop."""
        self._is_draining = True

    @property
    def served(self) -> ServedModel | None:
        """The version that answers new requests, if any."""
        return self._served

    def require_served(self) -> ServedModel:
        """Return the version that answers new requests; `ModelNotLoadedError` if there is none."""
        served = self._served
        if served is None:
            raise ModelNotLoadedError(self._last_error)
        return served

    def swap(self, model: ServedModel) -> None:
        """Serve `model` to every request that starts from now on; requests under way keep the old one."""
        self._served = model

    def secondary(self, alias: str) -> ServedModel | None:
        """Return the secondary version of an alias."""
        return self._secondary.get(alias)

    def set_secondary(self, alias: str, model: ServedModel | None) -> None:
        """Hold a secondary version by an alias, or none."""
        others = {name: held for name, held in self._secondary.items() if name != alias}
        self._secondary = others if model is None else {**others, alias: model}

    def loaded(self, version_id: int) -> ServedModel | None:
        """Return the version if it is in memory, in whatever role."""
        held = (self._served, *self._secondary.values())
        return next((model for model in held if model is not None and model.version_id == version_id), None)

    def set_last_error(self, reason: str) -> None:
        """Set why no version is being served."""
        self._last_error = reason

    async def score(
        self,
        model: ServedModel,
        images: Sequence[bytes],
        classnames: tuple[str, ...],
        templates: tuple[str, ...],
        *,
        caller: str = "",
        deadline: float | None = None,
    ) -> Scored:
        """Return features of every image and its cosine with every label; `HeadError` if no head can be built.

        Args:
            model: The model that answers; from `require_served`.
            images: B encoded images.
            classnames: C labels.
            templates: Prompt templates.
            caller: See `Engine`.
            deadline: See `Engine`.

        Returns:
            One row per image, one column per label.
        """
        start = time.perf_counter()
        with self._admit(model, images, caller, deadline) as request:
            request.head = self.heads.get(model.base, classnames, templates, request.answer, caller)
            answer = await self._answer(request)
        assert answer.cosines is not None
        return Scored(request.pixels, answer.features, answer.cosines, _timing(request, start))

    async def embed_images(
        self, model: ServedModel, images: Sequence[bytes], *, caller: str = "", deadline: float | None = None
    ) -> Tensor:
        """Return the unit features of encoded images: float32 [B, D]."""
        with self._admit(model, images, caller, deadline) as request:
            return (await self._answer(request)).features

    async def embed_texts(
        self, model: ServedModel, texts: Sequence[str], *, caller: str = "", deadline: float | None = None
    ) -> Tensor:
        """Return the unit features of texts, without a template around them: float32 [B, D]."""
        build = Build(model.base, len(texts), lambda: texts, lambda embeddings: embeddings, caller)
        self.texts.put(build, build.result)
        async with until(deadline, lambda: f"{len(texts)} texts were waiting for the model"):
            return await asyncio.wrap_future(build.result)  # cancelled with the caller, and then it is given up

    async def best_labels(
        self,
        model: ServedModel,
        images: Sequence[bytes] | NDArray[np.uint8],
        classnames: tuple[str, ...],
        templates: tuple[str, ...],
    ) -> Tensor:
        """Return the best label of each image, computed only while no images of requests wait.

        Args:
            model: The model that answers.
            images: B encoded images, or their pixels [B, S, S, 3] as `score` gave them for a model of the same base.
            classnames: C labels.
            templates: Prompt templates.

        Returns:
            int64 [B].
        """
        if isinstance(images, np.ndarray):
            request = InferenceRequest(model, images, low_priority=True)
        else:
            request = InferenceRequest.of_images(model, images, low_priority=True)
        request.head = self.heads.get(model.base, classnames, templates, request.answer)
        answer = await self._answer(request)
        assert answer.cosines is not None
        return answer.cosines.argmax(dim=1)

    def probe(self, model: ServedModel) -> None:
        """Forward an empty image, unless one is in flight, so that a failed version can recover without a request."""
        if self._probe is None or self._probe.answer.done():
            side = model.base.image_size
            self._probe = InferenceRequest(model, np.zeros((1, side, side, 3), np.uint8))
            self._workers.put(self._probe)

    def close(self) -> None:
        """Finish what is decoded and stop every thread."""
        self._workers.close()
        self.texts.close()
        self._served = None
        self._secondary = {}

    @contextmanager
    def _admit(
        self, model: ServedModel, images: Sequence[bytes], caller: str, deadline: float | None
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

    async def _answer(self, request: InferenceRequest) -> Answer:
        self._workers.put(request)
        async with until(request.deadline, request.waits_for):
            return await asyncio.wrap_future(request.answer)  # cancelled with the caller, and then it is abandoned


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
