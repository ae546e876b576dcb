"""What workers do with a batch: decode its images, forward them, and answer the requests that are complete."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from app.serving.health import Health
from app.serving.image_queue import Batch
from app.serving.request import compare
from app.serving.runner import Result


class InFlightBatch(NamedTuple):
    """A batch that the device works on."""

    batch: Batch
    result: Result


def decode(batch: Batch) -> Batch:
    """Decode the images of a batch; return it without those that cannot be decoded or are no longer wanted."""
    decoded = ((request, request.decode(indices)) for request, indices in batch)
    return [(request, indices) for request, indices in decoded if indices]


def submit(batch: Batch, on_batch: Callable[[int], object], health: Health) -> InFlightBatch | None:
    """Start the forward pass of decoded images.

    Args:
        batch: Images of one model, at least one.
        on_batch: Called with the number of images.
        health: Records a failure.

    Returns:
        The batch in flight; None: the forward pass failed, and the requests have been told.
    """
    num_images = sum(len(indices) for _, indices in batch)
    on_batch(num_images)
    try:
        runner = batch[0][0].model.runner
        staged = runner.stage(num_images)
        pixels = staged.numpy().data.cast("B")
        for request, indices in batch:
            pixels = request.copy_pixels(indices, pixels)
        return InFlightBatch(batch, runner.submit(staged))
    except Exception as error:  # propagate to the waiting requests; keep the worker alive
        _fail(batch, error, health)
        return None


def complete(in_flight: InFlightBatch, health: Health) -> None:
    """Wait for a forward pass and answer the requests of which it was the last one."""
    batch, result = in_flight
    try:
        features = result()
    except Exception as error:  # a GPU reports its errors late
        _fail(batch, error, health)
        return
    health.succeeded(batch[0][0].model)
    start, finished = 0, []
    for request, indices in batch:
        if request.put_features(indices, features[start : start + len(indices)]):
            finished.append(request)
        start += len(indices)
    compare(finished)


def _fail(batch: Batch, error: Exception, health: Health) -> None:
    error = health.failed(batch[0][0].model, error)
    for request, _ in batch:
        request.fail(error)
