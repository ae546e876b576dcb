"""Images that wait for a worker, in fair turns, and how many of them make a batch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from app.serving.model import MAX_BATCH_IMAGES, ServedModel
from app.serving.request import InferenceRequest
from app.serving.round_robin import RoundRobin

Batch = list[tuple[InferenceRequest, list[int]]]
"""Images of one model: requests, and the indices of their images."""

LARGE_MEGAPIXELS = 4.0
"""Decoding an image of this size or more takes a core a tenth of a second or more."""

_COST_PER_MEGAPIXEL = 4
_RESERVED_SECONDS = 10.0
_SLOW_IMAGE_SECONDS = 0.005
_MAX_BATCH_SECONDS = 0.8
"""Of one core, for more than one image: other requests wait meanwhile, and larger batches are hardly more efficient."""


@dataclass(frozen=True)
class BatchPolicy:
    """How large batches are, and how long they wait.

    Attributes:
        max_images: Images per batch, at most; fewer of a model that is slow on a CPU.
        quick_images: Images per batch of a model that is quick on a CPU, at most; None: `max_images`. With batches of
            32, all clients of a closed loop are answered at once, and the cores idle until their next requests arrive.
        num_cores: CPU cores that decode and forward; 0: a GPU forwards, and the CPU only decodes.
        wait_seconds: GPU: how long decoded images may wait for others that are still being decoded.
        linger_seconds: CPU: how long a worker whose last batch held several requests waits for the next batch to fill.
            Their clients are likely to send the next request at once, and a small batch costs more per image.
        max_large: Large images that are decoded at the same time while small images are waiting or arrived recently.
    """

    max_images: int = MAX_BATCH_IMAGES
    quick_images: int | None = None
    num_cores: int = 0
    wait_seconds: float = 0.0
    linger_seconds: float = 0.0
    max_large: int = 1

    @classmethod
    def for_device(
        cls, device: torch.device, num_cores: int, max_images: int | None = None, wait_ms: float | None = None
    ) -> BatchPolicy:
        """Return the policy for a device (`docs/decisions/0019-the-engines-shape.md`).

        Args:
            device: The device that forwards.
            num_cores: CPU cores that decode, and on a CPU forward, too.
            max_images: Images per batch, at most; None: the default of the device.
            wait_ms: `wait_seconds` in milliseconds; None: the default of the device.

        Returns:
            The policy.
        """
        max_large = max(1, num_cores // 2)
        if device.type == "cpu":
            return cls(
                max_images or 32, quick_images=16, num_cores=num_cores, linger_seconds=0.001, max_large=max_large
            )
        return cls(max_images or MAX_BATCH_IMAGES, wait_seconds=(wait_ms or 0.0) / 1000, max_large=max_large)

    def max_batch(self, model: ServedModel) -> int:
        """Return how many images of a model a batch holds at most."""
        seconds = model.runner.image_seconds
        if not self.num_cores:
            return self.max_images
        if seconds < _SLOW_IMAGE_SECONDS or math.isinf(seconds):
            return min(self.max_images, self.quick_images or self.max_images)
        return min(self.max_images, max(1, round(_MAX_BATCH_SECONDS / seconds)))


class ModelQueues:
    """Images that wait, by model. Models, callers and requests take turns; the owner's lock guards it.

    Images of low priority are taken when there are no others.

    Args:
        policy: How large batches are.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._normal: dict[ServedModel, RoundRobin[InferenceRequest]] = {}  # in the order of their turns
        self._low: dict[ServedModel, RoundRobin[InferenceRequest]] = {}

    def __len__(self) -> int:
        """Return how many images wait."""
        return self.num_normal + sum(map(len, self._low.values()))

    def __iter__(self) -> Iterator[InferenceRequest]:
        """Iterate over the requests."""
        for queue in (*self._normal.values(), *self._low.values()):
            yield from queue

    @property
    def num_normal(self) -> int:
        """Images that wait, without those of low priority."""
        return sum(map(len, self._normal.values()))

    def add(self, request: InferenceRequest, indices: Iterable[int]) -> None:
        """Add images of a request."""
        queues = self._low if request.low_priority else self._normal
        queue = queues.get(request.model)
        if queue is None:
            turn = max(1, self._policy.max_batch(request.model) // 2)
            queue = queues[request.model] = RoundRobin(turn, _caller, _cost)
        queue.add(request, indices)

    def next(self) -> tuple[ServedModel, int] | None:
        """Return the model that `take` takes from, and how many of its images wait; None: no image waits."""
        queues = self._normal or self._low
        return next(((model, len(queue)) for model, queue in queues.items()), None)

    def take(self, max_images: int) -> Batch:
        """Take images of one model, as many as cost no more to decode than a batch of ordinary photographs.

        Args:
            max_images: How many, at most.

        Returns:
            The images without those of abandoned requests; empty if there are no others.
        """
        queues = self._normal or self._low
        model, queue = next(iter(queues.items()))
        batch: dict[InferenceRequest, list[int]] = {}
        num_images = cost = 0
        while num_images < max_images and cost < self._policy.max_images:
            taken = queue.take(max_images - num_images)
            if taken is None:
                break
            request, indices = taken
            if request.is_abandoned():
                queue.drop(request)
                continue
            batch.setdefault(request, []).extend(indices)
            num_images += len(indices)
            cost += sum(_cost(request, index) for index in indices)
        del queues[model]
        if len(queue):
            queues[model] = queue  # at the end: the other models come first
        return list(batch.items())


class DecodeQueue:
    """Images that wait to be decoded. The owner's lock guards it.

    Small images take turns by their cost. Large images wait apart: decoding one cannot be interrupted and takes up to
    seconds, so only some of the workers do it while small images are waiting or arrived in the last few seconds.

    Args:
        policy: How large batches are.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._small = ModelQueues(policy)
        self._large: RoundRobin[InferenceRequest] = RoundRobin(1, _caller)
        self._num_large = 0
        self._was_large = False
        self._small_at = -math.inf

    def __len__(self) -> int:
        """Return how many images wait."""
        return len(self._small) + len(self._large)

    def __iter__(self) -> Iterator[InferenceRequest]:
        """Iterate over the requests; one may come twice."""
        yield from self._small
        yield from self._large

    @property
    def num_normal(self) -> int:
        """Images that wait, without large ones and those of low priority."""
        return self._small.num_normal

    def add(self, request: InferenceRequest) -> None:
        """Add all images of a request."""
        costs = request.costs
        if not costs or max(costs) < LARGE_MEGAPIXELS:
            self._small.add(request, range(request.num_images))
        else:
            self._large.add(request, [index for index, cost in enumerate(costs) if cost >= LARGE_MEGAPIXELS])
            if small := [index for index, cost in enumerate(costs) if cost < LARGE_MEGAPIXELS]:
                self._small.add(request, small)
        if self._small.num_normal:
            self._small_at = time.monotonic()

    def next_small(self) -> tuple[ServedModel, int] | None:
        """Return the model that `take_small` takes from, and how many images wait; None: no small image waits."""
        return self._small.next()

    def is_large_next(self) -> bool:
        """Return whether a large image is to be taken next."""
        num_small = self._small.num_normal
        if not len(self._large) or (num_small and self._was_large):
            return False
        is_reserved = num_small or time.monotonic() - self._small_at < _RESERVED_SECONDS
        return not is_reserved or self._num_large < self._policy.max_large

    def take_small(self, max_images: int) -> Batch:
        """Take small images as `ModelQueues.take` does."""
        self._was_large = False
        return _begin(self._small.take(max_images))

    def take_large(self) -> Batch:
        """Take one large image; empty if its request is abandoned. Call `end_large` once it is decoded."""
        taken = self._large.take(1)
        assert taken is not None
        if taken[0].is_abandoned():
            self._large.drop(taken[0])
            return []
        self._was_large = True
        self._num_large += 1
        return _begin([taken])

    def end_large(self) -> None:
        """Note that a large image is no longer being decoded."""
        self._num_large -= 1


def _begin(batch: Batch) -> Batch:
    for request, indices in batch:
        request.begin_decoding(len(indices))
    return batch


def _caller(request: InferenceRequest) -> str:
    return request.caller


def _cost(request: InferenceRequest, index: int) -> int:
    return max(1, round(_COST_PER_MEGAPIXEL * request.costs[index])) if request.costs else 1
