"""The batcher: one thread that owns the device and forwards images of many requests together.

It takes what is queued whenever the device is free, up to `MAX_BATCH_IMAGES`, and never waits for more: under load the
queue fills while the device works, so batches grow by themselves; without load nobody waits. A batch holds images of
one model only, so that no answer mixes two. Spare work, for which nobody waits, is taken when nothing else is there.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from torch import Tensor

from app.serving.model import MAX_BATCH_IMAGES, ServedModel


@dataclass(frozen=True)
class _Work:
    model: ServedModel
    images: Tensor
    features: Future[Tensor] = field(default_factory=Future)


class Batcher:
    """Forwards images through served models. Admission is the caller's: the queue itself has no bound.

    Args:
        on_batch: Told the number of images of each forward.
    """

    def __init__(self, on_batch: Callable[[int], object] = int) -> None:
        self._on_batch = on_batch
        self._queue: deque[_Work] = deque()
        self._spare: deque[_Work] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._num_batches = 0
        self._thread = threading.Thread(target=self._run, name="paintbox-forward", daemon=True)
        self._thread.start()

    @property
    def num_batches(self) -> int:
        """How many forwards there have been."""
        return self._num_batches

    def submit(self, model: ServedModel, images: Tensor, *, spare: bool = False) -> Future[Tensor]:
        """Return the features [B, D] of images [B, S, S, 3], B at most `MAX_BATCH_IMAGES`, once they are there.

        Args:
            model: Whose features.
            images: The images.
            spare: Whether they may wait until nothing else does.

        Returns:
            What will hold the features.
        """
        assert 0 < len(images) <= MAX_BATCH_IMAGES
        work = _Work(model, images)
        with self._changed:
            if self._closing:
                raise RuntimeError("the batcher is closed")
            (self._spare if spare else self._queue).append(work)
            self._changed.notify()
        return work.features

    def close(self) -> None:
        """Finish what is queued, then stop the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._take():
            running = [work for work in batch if work.features.set_running_or_notify_cancel()]
            if running:
                self._on_batch(sum(len(work.images) for work in running))
                _forward(running)
                self._num_batches += 1
            del batch, running  # or an idle thread would keep the last model in memory

    def _take(self) -> list[_Work]:
        """Return the next batch, of the oldest work's model and in order; empty once closed and drained."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._spare or self._closing)
            queue = self._queue or self._spare
            batch: list[_Work] = []
            room = MAX_BATCH_IMAGES
            while queue and len(queue[0].images) <= room:
                if batch and queue[0].model is not batch[0].model:
                    break
                batch.append(queue.popleft())
                room -= len(batch[-1].images)
            return batch


def _forward(batch: list[_Work]) -> None:
    try:
        images = torch.cat([work.images for work in batch]) if len(batch) > 1 else batch[0].images
        parts = torch.split(batch[0].model.encode(images), [len(work.images) for work in batch])
    except Exception as error:  # an edge: whoever waits gets it, the thread lives on
        for work in batch:
            work.features.set_exception(error)
        return
    for work, features in zip(batch, parts, strict=True):
        work.features.set_result(features)
