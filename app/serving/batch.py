"""What workers do with a batch: decode its images, forward them, and answer the requests that are complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from app.serving.health import Health
from app.serving.model import Result
from app.serving.request import Answer, Batch, InferenceRequest


class InFlightBatch(NamedTuple):
    """A batch whose forward pass has been submitted."""

    batch: Batch
    result: Result


class BatchRunner:
    """Runs batches for the workers.

    Args:
        on_batch: Called with the number of images of each forward pass.
        health: Records which forward passes fail.
    """

    def __init__(self, on_batch: Callable[[int], object] = int, health: Health | None = None) -> None:
        self._on_batch = on_batch
        self._health = health or Health()

    def run(self, batch: Batch) -> None:
        """Forward decoded images and answer the requests that are complete."""
        if (in_flight := self.submit(batch)) is not None:
            self.complete(in_flight)

    def submit(self, batch: Batch) -> InFlightBatch | None:
        """Start the forward pass of decoded images; None: it failed, and the requests have been told."""
        num_images = sum(len(indices) for _, indices in batch)
        self._on_batch(num_images)
        try:
            runner = batch[0][0].model.runner
            staged = runner.stage(num_images)
            pixels = staged.numpy().data.cast("B")
            for request, indices in batch:
                pixels = request.copy_pixels(indices, pixels)
            return InFlightBatch(batch, runner.submit(staged))
        except Exception as error:  # propagate to the waiting requests; keep the worker alive
            self._fail(batch, error)
            return None

    def complete(self, in_flight: InFlightBatch) -> None:
        """Wait for a forward pass and answer the requests of which it was the last one."""
        batch, result = in_flight
        try:
            features = result()
        except Exception as error:  # a GPU reports its errors late
            self._fail(batch, error)
            return
        self._health.succeeded(batch[0][0].model)
        start, finished = 0, []
        for request, indices in batch:
            if request.put_features(indices, features[start : start + len(indices)]):
                finished.append(request)
            start += len(indices)
        _compare(finished)

    def _fail(self, batch: Batch, error: Exception) -> None:
        error = self._health.failed(batch[0][0].model, error)
        for request, _ in batch:
            request.fail(error)


def decode(batch: Batch) -> Batch:
    """Decode the images of a batch; return it without those that cannot be decoded or are no longer wanted."""
    decoded = ((request, request.decode(indices)) for request, indices in batch)
    return [(request, indices) for request, indices in decoded if indices]


def _compare(requests: Iterable[InferenceRequest]) -> None:
    """Compare the features of requests with their heads, those of one head together, and answer them.

    Requests whose head is still being built are answered once it is.
    """
    by_head: dict[Future[Tensor] | None, list[InferenceRequest]] = {}
    for request in requests:
        by_head.setdefault(request.head, []).append(request)
    for head, group in by_head.items():
        if head is None:
            for request in group:
                request.succeed(Answer(request.features, None))
        elif head.done():
            _compare_with(head, group)
        else:
            head.add_done_callback(partial(_compare_with, requests=group))


def _compare_with(head: Future[Tensor], requests: Sequence[InferenceRequest]) -> None:
    try:
        features = [request.features for request in requests]
        with torch.no_grad():
            cosines = torch.cat(features) @ head.result().T
        parts = [
            part if request.correct is None else request.correct(request.features, part)
            for request, part in zip(requests, torch.split(cosines, [len(rows) for rows in features]), strict=True)
        ]
    except Exception as error:  # propagate to the waiting requests
        for request in requests:
            request.fail(RuntimeError("the engine is closed") if head.cancelled() else error)
        return
    for request, rows, part in zip(requests, features, parts, strict=True):
        request.succeed(Answer(rows, part))
