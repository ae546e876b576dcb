"""A batch on its way through the model: images of many requests put together, answers handed out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.serving.health import Health
from app.serving.line import Batch
from app.serving.runner import Landing
from app.serving.work import Work, finish


class Flight(NamedTuple):
    """A batch that the device works on."""

    batch: Batch
    landing: Landing


def launch(batch: Batch, on_batch: Callable[[int], object], health: Health) -> Flight | None:
    """Start a forward.

    Args:
        batch: Images of one model.
        on_batch: Told how many they are.
        health: Told if it failed.

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
        _fail(batch, health.failed(batch[0][0].model, error))
        return None


def land(flight: Flight, health: Health) -> None:
    """Wait for a forward, tell how it went, and answer the works of which it was the last."""
    model = flight.batch[0][0].model
    try:
        features = flight.landing()
    except Exception as error:  # an edge, as above: a GPU tells of its errors late
        return _fail(flight.batch, health.failed(model, error))
    health.succeeded(model)
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
