"""A batch on its way through the model: images of many requests put together, answers handed out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.serving.line import Batch
from app.serving.runner import Landing
from app.serving.work import Work, finish


class Flight(NamedTuple):
    """A batch that the device works on."""

    batch: Batch
    landing: Landing


def launch(batch: Batch, on_batch: Callable[[int], object]) -> Flight | None:
    """Start a forward.

    Args:
        batch: Images of one model.
        on_batch: Told how many they are.

    Returns:
        What `land` takes; None: it failed, and its works have been told.
    """
    num_images = sum(len(indices) for _, indices in batch)
    on_batch(num_images)
    try:
        runner = batch[0][0].model.runner
        staged = runner.stage(num_images)
        _gather(batch, staged.numpy().data.cast("B"))
        return Flight(batch, runner.launch(staged))
    except Exception as error:  # an edge: whoever waits gets it, the thread lives on
        _fail(batch, error)
        return None


def land(flight: Flight) -> None:
    """Wait for a forward, and answer the works of which it was the last."""
    try:
        features = flight.landing()
    except Exception as error:  # an edge, as above: a GPU tells of its errors late
        return _fail(flight.batch, error)
    finish(_scatter(flight.batch, features))


def _fail(batch: Batch, error: Exception) -> None:
    for work, _ in batch:
        work.fail(error)


def _gather(batch: Batch, pixels: memoryview) -> None:
    for work, indices in batch:
        pixels = work.copy_rows(indices, pixels)


def _scatter(batch: Batch, features: NDArray[np.float32]) -> Sequence[Work]:
    """Hand the features out; return the works of which none is missing any more."""
    start, complete = 0, []
    for work, indices in batch:
        if work.put_features(indices, features[start : start + len(indices)]):
            complete.append(work)
        start += len(indices)
    return complete
