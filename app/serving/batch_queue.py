"""The queue of encoded images: which of them the next free worker decodes, and with how many cores it forwards them."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass

from app.runtime.round_robin import RoundRobin
from app.serving.batch_policy import BatchPolicy
from app.serving.model import Model
from app.serving.model_queues import ModelQueues, caller_of
from app.serving.request import Batch, InferenceRequest

LARGE_MEGAPIXELS = 4.0
"""Decoding an image of this size or more takes a core a tenth of a second or more."""

_RESERVED_SECONDS = 10.0

_MIN_PART_IMAGES = 2
"""Of a batch, when images are shared out: one image costs nearly as much as two, and few images stay together."""

_MIN_SHARED_SECONDS = 0.02
"""Of a forward pass on several cores: they wait for each other at the end of each layer."""


@dataclass(eq=False)
class Task:
    """A batch for one worker, which calls `BatchQueue.extend` once it is decoded, `begin_forward`, and `end`.

    Attributes:
        batch: Images of one model.
        is_large: Whether it is one large image, not yet decoded.
        num_cores: Cores that it takes.
    """

    batch: Batch
    is_large: bool = False
    num_cores: int = 1

    @property
    def model(self) -> Model:
        """The model of the images."""
        return self.batch[0][0].model

    @property
    def num_images(self) -> int:
        """Images in the batch."""
        return sum(len(indices) for _, indices in self.batch)

    @property
    def may_share(self) -> bool:
        """Whether several cores can do the forward pass, and it is long enough for that."""
        runner = self.model.runner
        return runner.can_share and runner.image_seconds * self.num_images >= _MIN_SHARED_SECONDS


class BatchQueue:
    """A thread-safe queue: requests go in, and workers take batches out.

    A batch leaves when a worker is free: what waits is shared out among the free ones. A long forward pass gets all
    cores that are idle.

    Large images wait apart: decoding one cannot be interrupted and takes up to seconds, so only some of the workers do
    it while small images are waiting or arrived in the last few seconds.

    Args:
        policy: How large batches are.
        num_workers: How many workers there are, each with a core; None: `num_cores` of the policy.
        max_part: Most images that a worker takes; None: as the policy says.
    """

    def __init__(self, policy: BatchPolicy, num_workers: int | None = None, max_part: int | None = None) -> None:
        self._policy = policy
        self._max_part = max_part
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._small = ModelQueues(policy)
        self._large: RoundRobin[InferenceRequest] = RoundRobin(1, caller_of)
        self._num_large = 0  # being decoded
        self._was_large = False
        self._small_at = -math.inf
        self._num_workers = self._num_free = policy.num_cores if num_workers is None else num_workers
        self._is_sharing = False  # whether several cores forward a batch together
        self._is_closing = False

    def put(self, request: InferenceRequest) -> None:
        """Add the images of a request; `RuntimeError` once the queue is closed."""
        with self._lock:
            if self._is_closing:
                raise RuntimeError("the engine is closed")
            costs = request.costs
            if not costs or max(costs) < LARGE_MEGAPIXELS:
                self._small.add(request, range(request.num_images))
            else:
                self._large.add(request, [index for index, cost in enumerate(costs) if cost >= LARGE_MEGAPIXELS])
                if small := [index for index, cost in enumerate(costs) if cost < LARGE_MEGAPIXELS]:
                    self._small.add(request, small)
            if self._small.num_normal:
                self._small_at = time.monotonic()
            self._changed.notify()  # that worker wakes another one if there is more to do

    def next_task(self, *, wait: bool = True) -> Task | None:
        """Return the next task; None: there is none now, or, after waiting for one, the queue is closed and empty."""
        with self._lock:
            while True:
                if self._num_free and (task := self._take()) is not None:
                    self._num_free -= 1
                    if self._num_free and self._has_waiting():
                        self._changed.notify()
                    return task
                if not wait or (self._is_closing and not self._has_waiting()):
                    return None
                self._changed.wait()

    def extend(self, task: Task) -> Batch:
        """Add images that arrived while those of a task were decoded; return them. Empty: the batch is complete.

        Images are left to workers that are free, and to the turn of another model.
        """
        with self._lock:
            waiting = None if task.is_large or self._num_free or not self._small.num_normal else self._small.next()
            if waiting is None or waiting[0] is not task.model:
                return []
            room = self._policy.max_batch(task.model) - task.num_images
            added = self._begin(self._small.take(room, task.batch)) if room > 0 else []
            task.batch += added
            return added

    def begin_forward(self, task: Task) -> None:
        """Note that a task is decoded; if its forward pass is long and nothing waits, the task gets all free cores."""
        with self._lock:
            self._end_decoding(task)
            if self._has_waiting():
                self._changed.notify()  # another large image may be decoded now
            elif self._num_free and not self._is_sharing and task.may_share:
                task.num_cores += self._num_free
                self._is_sharing, self._num_free = True, 0

    def end(self, task: Task) -> None:
        """Note that a task is done and its cores are free."""
        with self._lock:
            self._end_decoding(task)
            self._num_free += task.num_cores
            self._is_sharing &= task.num_cores == 1
            if self._has_waiting() or self._is_closing:
                self._changed.notify(task.num_cores)

    def is_busy(self) -> bool:
        """Return whether a worker has a task, or small images of normal priority wait."""
        with self._lock:
            return self._num_free < self._num_workers or self._small.num_normal > 0

    def close(self) -> None:
        """Refuse new requests and cancel those that are not decoded; the others are still given out."""
        with self._lock:
            self._is_closing = True
            undecoded = [request for request in (*self._small, *self._large) if request.images]
            self._changed.notify_all()
        for request in undecoded:
            request.answer.cancel()

    def _has_waiting(self) -> bool:
        return len(self._small) + len(self._large) > 0

    def _take(self) -> Task | None:
        while True:
            is_large = self._is_large_next()
            if is_large:
                batch = self._take_large()
            elif (waiting := self._small.next()) is not None:
                batch = self._small.take(self._num_part(*waiting))
            else:
                return None
            if batch:
                self._was_large = is_large
                self._num_large += is_large
                return Task(self._begin(batch), is_large)

    def _begin(self, batch: Batch) -> Batch:
        for request, indices in batch:
            request.begin_decoding(len(indices))
        return batch

    def _num_part(self, model: Model, num_images: int) -> int:
        """Return how many of a model's images the next worker takes."""
        num_parts = min(self._num_free, max(1, num_images // _MIN_PART_IMAGES))
        return min(math.ceil(num_images / num_parts), self._max_part or num_images, self._policy.max_batch(model))

    def _is_large_next(self) -> bool:
        num_small = self._small.num_normal
        if not len(self._large) or (num_small and self._was_large):
            return False
        is_reserved = num_small or time.monotonic() - self._small_at < _RESERVED_SECONDS
        return not is_reserved or self._num_large < self._policy.max_large

    def _take_large(self) -> Batch:
        taken = self._large.take(1)
        assert taken is not None
        if taken[0].is_abandoned():
            self._large.drop(taken[0])
            return []
        return [taken]

    def _end_decoding(self, task: Task) -> None:
        self._num_large -= task.is_large
        task.is_large = False
