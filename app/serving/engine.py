"""The engine: from encoded images and labels to cosines, by whatever version is being served.

A request takes one reference to the served model at its start and keeps it, so a swap in between changes nothing for
it. The event loop only waits here: decoding, text and forward each have their own threads.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar, TypeVarTuple, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from app.errors import DeadlineExceededError, ImageRefusedError, ModelNotLoadedError, QueueFullError
from app.serving.batcher import Batcher
from app.serving.heads import HeadCache
from app.serving.model import MAX_BATCH_IMAGES, ServedModel
from paint_core.errors import ImageDecodeError

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")


@dataclass(frozen=True, eq=False)
class Scored:
    """How well each label fits each image.

    Attributes:
        pixels: The images as the model got them: uint8 [B, S, S, 3].
        features: float32 [B, D], unit rows.
        cosines: float32 [B, C], in [-1, 1]; `app.serving.scoring` makes scores of them.
        timing_ms: Milliseconds by step.
    """

    pixels: Tensor
    scores: Tensor
    cosines: Tensor
    timing_ms: dict[str, float]


class Admission:
    """A bound on the images that are in the engine at once.

    Args:
        max_images: The bound.
    """

    def __init__(self, max_images: int) -> None:
        self._max_images = max_images
        self._num_images = 0
        self._lock = threading.Lock()

    @property
    def num_images(self) -> int:
        """Images in the engine now."""
        return self._num_images

    @contextmanager
    def hold(self, num_images: int) -> Iterator[None]:
        """Hold places for the images while the context lasts.

        Args:
            num_images: How many places.

        Yields:
            None: The places are free again when the context ends.

        Raises:
            QueueFullError: There are not enough.
        """
        with self._lock:
            if self._num_images + num_images > self._max_images:
                raise QueueFullError(self._num_images)
            self._num_images += num_images
        try:
            yield
        finally:
            with self._lock:
                self._num_images -= num_images


class Engine:
    """Serves one version, and holds others beside it by the names of their aliases.

    Args:
        decode_threads: Threads that decode images.
        max_queue_images: Images that may be in the engine at once.
        on_batch: Told the number of images of each forward.
    """

    def __init__(self, *, decode_threads: int, max_queue_images: int, on_batch: Callable[[int], object] = int) -> None:
        self.admission = Admission(max_queue_images)
        self.heads = HeadCache()
        self.batcher = Batcher(on_batch)
        self._pool = ThreadPoolExecutor(decode_threads, thread_name_prefix="paintbox-decode")
        self._served: ServedModel | None = None
        self._beside: dict[str, ServedModel] = {}
        self._trouble = "the process is starting."

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
        deadline: float | None = None,
    ) -> Scored:
        """Return features of every image and its cosine with every label.

        Args:
            model: Who answers; from `require_served`.
            images: B encoded images.
            classnames: C labels.
            templates: Prompt templates.
            deadline: When the answer is worth nothing any more, as `time.monotonic()` tells time; None: never.

        Returns:
            One row an image, one column a label.

        Raises:
            QueueFullError: Too many images are in the engine.
            DeadlineExceededError: The deadline has passed.
            ImageRefusedError: An image cannot be decoded; the first such is named.
            HeadError: No head can be built from these labels and templates.
        """
        start = time.perf_counter()
        with self.admission.hold(len(images)):
            async with _until(deadline, f"{len(images)} images were classified"):
                building = self.heads.get(model.base, classnames, templates)
                pixels = await self.decode(model, images)
                decoded = time.perf_counter()
                head = await asyncio.shield(asyncio.wrap_future(building))  # others wait for it too: never cancel it
                headed = time.perf_counter()
                features = await self._encode(model, pixels, spare=False)
                forwarded = time.perf_counter()
                cosines = await self._in_pool(_compare, features, head)
        timing = {
            "decode": decoded - start,
            "text": headed - decoded,
            "model": forwarded - headed,
            "total": time.perf_counter() - start,
        }
        timing_ms = {step: round(1000 * seconds, 3) for step, seconds in timing.items()}
        return Scored(pixels, features, cosines, timing_ms)

    async def embed_images(
        self, model: ServedModel, images: Sequence[bytes], *, deadline: float | None = None
    ) -> Tensor:
        """Return the features of images.

        Args:
            model: Whose features.
            images: B encoded images.
            deadline: When the answer is worth nothing any more, as `time.monotonic()` tells time; None: never.

        Returns:
            float32 [B, D], unit rows.

        Raises:
            QueueFullError: Too many images are in the engine.
            DeadlineExceededError: The deadline has passed.
            ImageRefusedError: An image cannot be decoded; the first such is named.
        """
        with self.admission.hold(len(images)):
            async with _until(deadline, f"{len(images)} images were embedded"):
                return await self._encode(model, await self.decode(model, images), spare=False)

    async def embed_texts(self, model: ServedModel, texts: Sequence[str], *, deadline: float | None = None) -> Tensor:
        """Return the features of texts, as they are: no template is put around them.

        Args:
            model: Whose features.
            texts: B of them.
            deadline: When the answer is worth nothing any more, as `time.monotonic()` tells time; None: never.

        Returns:
            float32 [B, D], unit rows.

        Raises:
            DeadlineExceededError: The deadline has passed.
        """
        async with _until(deadline, f"{len(texts)} texts were embedded"):
            return await asyncio.wrap_future(self.heads.embed(model.base, texts))

    async def best_labels(
        self, model: ServedModel, pixels: Tensor, classnames: tuple[str, ...], templates: tuple[str, ...]
    ) -> Tensor:
        """Return the best label of each image, computed only while no request's images wait.

        Args:
            model: Who says it.
            pixels: B images, as `decode` gives them.
            classnames: C labels.
            templates: Prompt templates.

        Returns:
            int64 [B].
        """
        head = await asyncio.shield(asyncio.wrap_future(self.heads.get(model.base, classnames, templates)))
        features = await self._encode(model, pixels, spare=True)
        cosines = await self._in_pool(_compare, features, head)
        return cosines.argmax(dim=1)

    def close(self) -> None:
        """Finish what is queued and stop every thread."""
        self._pool.shutdown(cancel_futures=True)
        self.heads.close()
        self.batcher.close()
        self._served = None
        self._beside = {}

    async def decode(self, model: ServedModel, images: Sequence[bytes]) -> Tensor:
        """Return the images as the model wants them.

        Args:
            model: Whose base decides the size.
            images: B encoded images.

        Returns:
            uint8 [B, S, S, 3].

        Raises:
            ImageRefusedError: One cannot be decoded; the first such is named.
        """
        decode = model.base.preprocess.decode
        pending = [self._in_pool(decode, image) for image in images]
        results = await asyncio.gather(*pending, return_exceptions=True)
        for index, result in enumerate(results):
            if isinstance(result, ImageDecodeError):
                reason, _, advice = str(result).partition(": ")
                raise ImageRefusedError(result.code, index, f"cannot be decoded ({reason})", f"{advice.capitalize()}.")
            if isinstance(result, BaseException):
                raise result
        return torch.stack([torch.from_numpy(result) for result in results])

    async def _encode(self, model: ServedModel, pixels: Tensor, *, spare: bool) -> Tensor:
        parts = torch.split(pixels, MAX_BATCH_IMAGES)
        futures = [asyncio.wrap_future(self.batcher.submit(model, part, spare=spare)) for part in parts]
        return await self._in_pool(_unit, await asyncio.gather(*futures))

    def _in_pool(
        self, function: Callable[[Unpack[_Arguments]], _Result], *arguments: *_Arguments
    ) -> asyncio.Future[_Result]:
        return asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


@asynccontextmanager
async def _until(deadline: float | None, waited_for: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
            yield
    except TimeoutError as error:
        raise DeadlineExceededError(waited_for) from error


@torch.inference_mode()
def _unit(features: Sequence[Tensor]) -> Tensor:
    return F.normalize(torch.cat(list(features)), dim=-1)


@torch.inference_mode()
def _compare(features: Tensor, head: Tensor) -> Tensor:
    return features @ head.T
