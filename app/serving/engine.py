"""The engine: from encoded images and labels to cosines, by whatever version is being served.

A request takes one reference to the served model at its start and keeps it, so a swap in between changes nothing for
it. The event loop only waits here, once a request: a request's images become a work, which threads decode and forward,
and from there its answer comes back.
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

from app.deadlines import until
from app.errors import ImageRefusedError, ModelNotLoadedError
from app.serving.admission import Admission
from app.serving.crews import CoreCrew, Crew, DeviceCrew
from app.serving.heads import HeadCache
from app.serving.health import Health
from app.serving.line import Line, Pace
from app.serving.model import MAX_BATCH_IMAGES, ServedModel
from app.serving.postbox import Postbox
from app.serving.texts import CPU_SLICE_TEXTS, DEVICE_SLICE_TEXTS, Build, TextQueue
from app.serving.work import Answer, Work
from paint_core.images.decoding import DEFAULT_MAX_PIXELS
from paint_core.images.headers import read_header

_UNKNOWN_MEGAPIXELS = 1.0
_CPU_BATCH_IMAGES, _CPU_ENOUGH_IMAGES = 32, 16
_CPU_WAIT_SECONDS = 0.05
_CPU_LINGER_SECONDS = 0.001


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


def choose_pace(
    device: torch.device, num_cores: int, max_images: int | None = None, wait_ms: float | None = None
) -> Pace:
    """Return when batches leave on a device (`docs/decisions/0019-the-engines-shape.md`).

    Args:
        device: What forwards.
        num_cores: Cores that decode, and on a CPU forward, too.
        max_images: Most images of a batch; None: what suits the device.
        wait_ms: Milliseconds that ready images may wait for others that are being decoded; None: what suits the device.

    Returns:
        The pace.
    """
    is_cpu = device.type == "cpu"
    return Pace(
        max_images=max_images or (_CPU_BATCH_IMAGES if is_cpu else MAX_BATCH_IMAGES),
        enough_images=_CPU_ENOUGH_IMAGES if is_cpu else 0,
        wait_seconds=wait_ms / 1000 if wait_ms is not None else (_CPU_WAIT_SECONDS if is_cpu else 0.0),
        linger_seconds=_CPU_LINGER_SECONDS if is_cpu else 0.0,
        shared_cores=num_cores if is_cpu else 0,
        max_large=max(1, num_cores // 2),
    )


class Engine:
    """Serves one version, and holds others beside it by the names of their aliases.

    Args:
        decode_threads: Threads that decode images, and on a CPU forward them, too.
        max_queue_images: Images that may be in the engine at once.
        max_queue_texts: Texts that may wait for the text tower at once, those of heads with them.
        max_queue_megapixels: What the images that may be in the engine at once may cost to decode, together.
        max_image_pixels: Of an image; a larger one is refused.
        on_batch: Told the number of images of each forward.
        pace: When a batch leaves; left out: as it suits a CPU.
        head_cache_bytes: What heads that are kept may take.
        on_fatal: Told of an error after which the device answers nothing any more.
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
        pace: Pace | None = None,
        head_cache_bytes: int = 256 << 20,
        on_fatal: Callable[[Exception], object] = repr,
    ) -> None:
        self.admission = Admission(max_queue_images)
        self._max_kilopixels = 1000 * max_queue_megapixels
        self._kilopixels = Admission(self._max_kilopixels, "megapixels", unit=1000)
        self._max_image_pixels = max_image_pixels
        self.health = Health(on_fatal)
        pace = pace or choose_pace(torch.device("cpu"), decode_threads)
        self._shares_cores = pace.shared_cores > 0
        crew = CoreCrew if self._shares_cores else DeviceCrew
        self.line = Line(pace)
        self._crew: Crew = crew(self.line, pace.shared_cores or decode_threads, on_batch, self.health)
        slice_texts = CPU_SLICE_TEXTS if self._shares_cores else DEVICE_SLICE_TEXTS
        self.texts = TextQueue(max_queue_texts, decode_threads, slice_texts, self.health.look_at)
        self.heads = HeadCache(self.texts, head_cache_bytes)
        self._probe: Work | None = None
        self._postbox: Postbox[Answer] | None = None
        self._served: ServedModel | None = None
        self._beside: dict[str, ServedModel] = {}
        self._trouble = "the process is starting."
        self._is_draining = False

    @property
    def is_pressed(self) -> bool:
        """Whether requests need the cores now: whatever else takes them holds them up."""
        return self._shares_cores and (self.admission.num_images > 0 or self.texts.num_texts > 0)

    @property
    def is_draining(self) -> bool:
        """Whether the process is about to stop: requests are still answered, but new ones should go elsewhere."""
        return self._is_draining

    def drain(self) -> None:
        """Tell whoever asks that the process is about to stop."""
        self._is_draining = True

    @property
    def served(self) -> ServedModel | None:
        """The version that answers new requests, if any."""
        return self._served

    def require_served(self) -> ServedModel:
        """Return the version that answers new requests.

        Returns:
            What `served` is, never None.

        Raises:
            ModelNotLoadedError: There is none.
        """
        served = self._served
        if served is None:
            raise ModelNotLoadedError(self._trouble)
        return served

    def swap(self, model: ServedModel) -> None:
        """Let `model` answer every request that starts from now on; requests under way keep the old one."""
        self._served = model

    def beside(self, alias: str) -> ServedModel | None:
        """Return the version that is held by this name beside the one that answers."""
        return self._beside.get(alias)

    def hold_beside(self, alias: str, model: ServedModel | None) -> None:
        """Hold another version by this name, or none."""
        others = {name: held for name, held in self._beside.items() if name != alias}
        self._beside = others if model is None else {**others, alias: model}

    def loaded(self, version_id: int) -> ServedModel | None:
        """Return the version if it is in memory, in whatever role."""
        held = (self._served, *self._beside.values())
        return next((model for model in held if model is not None and model.version_id == version_id), None)

    def report_trouble(self, reason: str) -> None:
        """Tell why no version is being served."""
        self._trouble = reason

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
        """Return features of every image and its cosine with every label.

        Args:
            model: Who answers; from `require_served`.
            images: B encoded images.
            classnames: C labels.
            templates: Prompt templates.
            caller: Who asks: callers take turns.
            deadline: When the answer is worth nothing any more, as `time.monotonic()` tells time; None: never.

        Returns:
            One row an image, one column a label.

        Raises:
            QueueFullError: Too many images are in the engine, or too many texts wait for the text tower.
            DeadlineExceededError: The deadline has passed.
            ImageRefusedError: An image cannot be decoded; the first such is named.
            HeadError: No head can be built from these labels and templates.
        """
        start = time.perf_counter()
        with self._admit(model, images, caller, deadline) as work:
            work.head = self.heads.get(model.base, classnames, templates, work.answer, caller)
            answer = await self._answer(work)
        assert answer.cosines is not None
        return Scored(work.pixels, answer.features, answer.cosines, _timing(work, start))

    async def embed_images(
        self, model: ServedModel, images: Sequence[bytes], *, caller: str = "", deadline: float | None = None
    ) -> Tensor:
        """Return the features of images.

        Args:
            model: Whose features.
            images: B encoded images.
            caller: Who asks: callers take turns.
            deadline: When the answer is worth nothing any more, as `time.monotonic()` tells time; None: never.

        Returns:
            float32 [B, D], unit rows.

        Raises:
            QueueFullError: Too many images are in the engine.
            DeadlineExceededError: The deadline has passed.
            ImageRefusedError: An image cannot be decoded; the first such is named.
        """
        with self._admit(model, images, caller, deadline) as work:
            answer = await self._answer(work)
        return answer.features

    async def embed_texts(
        self, model: ServedModel, texts: Sequence[str], *, caller: str = "", deadline: float | None = None
    ) -> Tensor:
        """Return the features of texts, as they are: no template is put around them.

        Args:
            model: Whose features.
            texts: B of them.
            caller: Who asks: callers take turns.
            deadline: When the answer is worth nothing any more, as `time.monotonic()` tells time; None: never.

        Returns:
            float32 [B, D], unit rows.

        Raises:
            QueueFullError: Too many texts are waiting.
            DeadlineExceededError: The deadline has passed.
        """
        build = Build(model.base, len(texts), lambda: texts, lambda embeddings: embeddings, caller)
        self.texts.put(build, build.result)
        async with until(deadline, lambda: f"{len(texts)} texts waited for the model"):
            return await asyncio.wrap_future(build.result)  # cancelled with us, and then it is given up

    async def best_labels(
        self,
        model: ServedModel,
        images: Sequence[bytes] | NDArray[np.uint8],
        classnames: tuple[str, ...],
        templates: tuple[str, ...],
    ) -> Tensor:
        """Return the best label of each image, computed only while no request's images wait.

        Args:
            model: Who says it.
            images: B encoded images, or their pixels [B, S, S, 3] as `score` gave them for a model of the same base.
            classnames: C labels.
            templates: Prompt templates.

        Returns:
            int64 [B].
        """
        if isinstance(images, np.ndarray):
            work = Work(model, images, is_spare=True)
        else:
            work = Work.of_images(model, images, None, None, is_spare=True)
        work.head = self.heads.get(model.base, classnames, templates, work.answer)
        answer = await self._answer(work)
        assert answer.cosines is not None
        return answer.cosines.argmax(dim=1)

    def close(self) -> None:
        """Finish what is decoded and stop every thread."""
        self.line.close()
        self._crew.join()
        self.texts.close()
        self._served = None
        self._beside = {}

    def probe(self, model: ServedModel) -> None:
        """Forward an empty image, unless one is under way: it heals a version that failed and is not asked any more."""
        if self._probe is None or self._probe.answer.done():
            side = model.base.image_size
            self._probe = Work(model, np.zeros((1, side, side, 3), np.uint8))
            self.line.put(self._probe)

    @contextmanager
    def _admit(
        self, model: ServedModel, images: Sequence[bytes], caller: str, deadline: float | None
    ) -> Iterator[Work]:
        """Yield the work that images make, which hold their places while the context lasts."""
        costs = [self._cost(index, image) for index, image in enumerate(images)]
        kilopixels = min(math.ceil(1000 * sum(costs)), self._max_kilopixels)
        with self.admission.hold(len(images), caller), self._kilopixels.hold(kilopixels, caller):
            yield Work.of_images(
                model, images, None, deadline, caller=caller, costs=costs, max_pixels=self._max_image_pixels
            )

    def _cost(self, index: int, image: bytes) -> float:
        """Return what decoding an image costs, in megapixels; `ImageRefusedError` if it says that it is too large."""
        header = read_header(image)
        if header is None:
            return _UNKNOWN_MEGAPIXELS
        if header.pixels > self._max_image_pixels:
            size = f"{header.width} x {header.height} is over {self._max_image_pixels:,} pixels"
            raise ImageRefusedError("image_undecodable", index, f"cannot be decoded ({size})", "Shrink the picture.")
        return header.work

    async def _answer(self, work: Work) -> Answer:
        loop = asyncio.get_running_loop()
        if self._postbox is None or self._postbox.loop is not loop:
            self._postbox = Postbox(loop)
        self.line.put(work)
        async with until(work.deadline, work.where):
            return await self._postbox.wait(work.answer)  # cancelled with us, and then the line drops the images


def _timing(work: Work, start: float) -> dict[str, float]:
    """Return milliseconds by step; `text` is what the labels took longer than the images."""
    now = time.perf_counter()
    seconds = {
        "decode": work.decoded - start,
        "text": now - work.forwarded,
        "model": work.forwarded - work.decoded,
        "total": now - start,
    }
    return {step: round(1000 * value, 3) for step, value in seconds.items()}
