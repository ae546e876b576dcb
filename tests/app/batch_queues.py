"""Requests for queues that no thread takes from, and the events that threads would bring about."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from app.models.served_model import ServedModel
from app.serving.batch_queue import BatchQueue, Task
from app.serving.request import Batch, InferenceRequest
from paint_core.models import BaseModel
from tests.support.patterns import patterns

SHORT, LONG = 0.0, 0.05
"""Seconds that an image costs a core: next to nothing, and as much as ViT-B/32's."""


class Clock:
    """What queues take for `time`; it stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("app.serving.batch_queue.time", self)

    def monotonic(self) -> float:
        return self.now


def served(base: BaseModel, image_seconds: float = SHORT) -> ServedModel:
    model = ServedModel(1, base, base.visual)
    model.__dict__["runner"] = SimpleNamespace(image_seconds=image_seconds, can_share=True)  # nothing is forwarded here
    return model


def encoded(model: ServedModel, num_images: int, **options: Any) -> InferenceRequest:
    return InferenceRequest.of_images(model, [b"an image"] * num_images, **options)


def ready(model: ServedModel, num_images: int, **options: Any) -> InferenceRequest:
    return InferenceRequest(model, patterns(model.base.image_size, num_images).numpy(), **options)


def begin(queue: BatchQueue) -> Task:
    """The task that a core begins now."""
    task = queue.next_task(wait=False)
    assert task is not None
    return task


def forward(queue: BatchQueue) -> Task:
    """The task that a core begins now, decoded."""
    task = begin(queue)
    queue.begin_forward(task)
    return task


def process(queue: BatchQueue) -> Batch:
    """The batch that leaves now, done at once."""
    task = begin(queue)
    queue.begin_forward(task)
    queue.end(task)
    return task.batch


def sizes(batch: Batch) -> list[int]:
    return [len(indices) for _, indices in batch]
