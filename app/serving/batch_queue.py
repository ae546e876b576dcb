"""The queue of a CPU's workers: which images the next free core decodes and forwards, and with how many cores."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass

from app.serving.image_queue import Batch, BatchPolicy, DecodeQueue
from app.serving.request import InferenceRequest

_MIN_PART_IMAGES = 2
"""Of a batch, when images are shared out: one image costs nearly as much as two, and few images stay together."""

_MIN_SHARED_SECONDS = 0.02
"""Of a forward pass on several cores: they wait for each other at the end of each layer."""


@dataclass(eq=False)
class Task:
    """A batch for one worker, which calls `BatchQueue.begin_forward` once it is decoded, then `BatchQueue.end`.

    Attributes:
        batch: Images of one model.
        is_large: Whether it is one large image.
        num_cores: Cores that it takes.
    """

    batch: Batch
    is_large: bool = False
    num_cores: int = 1


class BatchQueue:
    """A thread-safe queue: requests go in, and workers take batches out.

    A batch leaves when a core is free: what waits is shared out among the free cores. A long forward pass gets all
    cores that are idle. For a moment after a batch of several requests a worker waits for a full batch.

    Args:
        policy: How large batches are; `num_cores` is the number of workers.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting = DecodeQueue(policy)
        self._num_free = policy.num_cores
        self._is_sharing = False  # whether several cores forward a batch together
        self._linger_until = 0.0
        self._is_closing = False

    def put(self, request: InferenceRequest) -> None:
        """Add the images of a request; `RuntimeError` once the queue is closed."""
        with self._lock:
            if self._is_closing:
                raise RuntimeError("the engine is closed")
            self._waiting.add(request)
            self._changed.notify()  # that worker wakes another one if there is more to do

    def next_task(self, *, wait: bool = True) -> Task | None:
        """Return the next task.

        Args:
            wait: Whether to wait for one.

        Returns:
            The task; None: there is none now, or, after waiting, the queue is closed and empty.
        """
        with self._lock:
            while True:
                linger_seconds = self._linger_until - time.monotonic()
                may_take = linger_seconds <= 0 or self._is_closing or self._is_full()
                if self._num_free and may_take and (task := self._take()) is not None:
                    self._num_free -= 1
                    if self._num_free and len(self._waiting):
                        self._changed.notify()
                    return task
                if not wait or (self._is_closing and not len(self._waiting)):
                    return None
                self._changed.wait(linger_seconds if linger_seconds > 0 and len(self._waiting) else None)

    def begin_forward(self, task: Task) -> None:
        """Note that a task is decoded; if its forward pass is long and nothing waits, the task gets all free cores."""
        with self._lock:
            if task.is_large:
                self._waiting.end_large()
            if len(self._waiting):
                self._changed.notify()  # another large image may be decoded now
            elif self._num_free and not self._is_sharing and _forward_seconds(task.batch) >= _MIN_SHARED_SECONDS:
                self._is_sharing = True
                task.num_cores += self._num_free
                self._num_free = 0

    def end(self, task: Task) -> None:
        """Note that a task is done and its cores are free."""
        with self._lock:
            self._num_free += task.num_cores
            self._is_sharing &= task.num_cores == 1
            if len(task.batch) > 1:
                self._linger_until = time.monotonic() + self._policy.linger_seconds
            if len(self._waiting) or self._is_closing:
                self._changed.notify(task.num_cores)

    def close(self) -> None:
        """Refuse new requests and cancel those that are not decoded; the others are still given out."""
        with self._lock:
            self._is_closing = True
            undecoded = [request for request in self._waiting if request.images]
            self._changed.notify_all()
        for request in undecoded:
            request.answer.cancel()

    def _take(self) -> Task | None:
        while len(self._waiting):
            if self._waiting.is_large_next():
                if batch := self._waiting.take_large():
                    return Task(batch, is_large=True)
                continue
            waiting = self._waiting.next_small()
            if waiting is None:
                return None
            model, num_images = waiting
            num_parts = min(self._num_free, max(1, num_images // _MIN_PART_IMAGES))
            part = math.ceil(num_images / num_parts)
            if batch := self._waiting.take_small(min(part, self._policy.max_batch(model))):
                return Task(batch)
        return None

    def _is_full(self) -> bool:
        waiting = self._waiting.next_small()
        return waiting is not None and waiting[1] >= self._policy.max_batch(waiting[0])


def _forward_seconds(batch: Batch) -> float:
    """Return how long one core takes for a batch, about."""
    return batch[0][0].model.runner.image_seconds * sum(len(indices) for _, indices in batch)
