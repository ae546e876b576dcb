"""The batcher: one thread that owns the device and forwards images of many requests together.

It takes the next batch whenever the device is free; under load the line fills while the device works, so batches grow
by themselves. A batch holds images of one model only, so that no answer mixes two. On a GPU it works two deep: while
the device computes a batch, the next one is put together and sent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from app.serving.line import Batch, Line, Pace
from app.serving.model import ServedModel
from app.serving.runner import Landing
from app.serving.work import Answer, Work, finish

_Flight = tuple[Batch, Landing]


class Batcher:
    """Forwards images through served models. Admission is the caller's: the line itself has no bound.

    Args:
        on_batch: Told the number of images of each forward.
        pace: When a batch leaves; left out: whenever the device is free.
    """

    def __init__(self, on_batch: Callable[[int], object] = int, pace: Pace | None = None) -> None:
        self.line = Line(pace or Pace())
        self._on_batch = on_batch
        self._num_batches = 0
        self._thread = threading.Thread(target=self._run, name="paintbox-forward", daemon=True)
        self._thread.start()

    @property
    def num_batches(self) -> int:
        """How many forwards there have been."""
        return self._num_batches

    def submit(self, model: ServedModel, images: Tensor, *, spare: bool = False) -> Future[Answer]:
        """Return the unit features of images [B, S, S, 3] once they are there.

        Args:
            model: Whose features.
            images: The images, decoded.
            spare: Whether they may wait until nothing else does.

        Returns:
            What will hold the features.
        """
        work = Work(model, images, is_spare=spare)
        self.line.put(work)
        return work.answer

    def close(self) -> None:
        """Finish what is decoded, then stop the thread."""
        self.line.close()
        self._thread.join()

    def _run(self) -> None:
        flight: _Flight | None = None
        while True:
            batch = self.line.next_batch(wait=flight is None)
            if batch is None and flight is None:
                return
            started = self._start(batch) if batch is not None else None
            if flight is not None:
                self._land(*flight)
            flight = started
            if flight is not None and flight[0][0][0].model.runner.depth == 1:
                self._land(*flight)
                flight = None
            del batch, started  # or an idle thread would keep the last model in memory

    def _start(self, batch: Batch) -> _Flight | None:
        num_images = sum(len(indices) for _, indices in batch)
        self._on_batch(num_images)
        self._num_batches += 1
        try:
            runner = batch[0][0].model.runner
            staged = runner.stage(num_images)
            _gather(batch, staged.numpy())
            return batch, runner.launch(staged)
        except Exception as error:  # an edge: whoever waits gets it, the thread lives on
            self._fail(batch, error)
            return None

    def _land(self, batch: Batch, landing: Landing) -> None:
        try:
            features = landing()
        except Exception as error:  # an edge, as above: a GPU tells of its errors late
            return self._fail(batch, error)
        self.line.forwarded()
        finish(_scatter(batch, features))

    def _fail(self, batch: Batch, error: Exception) -> None:
        self.line.forwarded()
        for work, _ in batch:
            work.fail(error)


def _gather(batch: Batch, rows: NDArray[np.uint8]) -> None:
    start = 0
    for work, indices in batch:
        work.copy_rows(indices, rows[start : start + len(indices)])
        start += len(indices)


def _scatter(batch: Batch, features: NDArray[np.float32]) -> Sequence[Work]:
    """Hand the features out; return the works of which none is missing any more."""
    start, complete = 0, []
    for work, indices in batch:
        if work.put_features(indices, features[start : start + len(indices)]):
            complete.append(work)
        start += len(indices)
    return complete
