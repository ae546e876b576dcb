"""Works for a line that no thread takes from, and the events that threads would bring about."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from app.serving.line import Batch, Decoding, Forwarding, Line
from app.serving.model import ServedModel
from app.serving.work import Work
from paint_core.evaluation import probe_images
from paint_core.models import BaseModel

SHORT, LONG = 0.0, 0.05
"""Seconds that an image costs a core: next to nothing, and as much as ViT-B/32's."""


class Clock:
    """What the line takes for `time`, and stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        for module in ("line", "encoded"):
            monkeypatch.setattr(f"app.serving.{module}.time", self)

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic


def served(base: BaseModel, image_seconds: float = SHORT) -> ServedModel:
    model = ServedModel(1, base, base.visual, torch.device("cpu"), base.logit_scale, base.logit_bias)
    model.__dict__["runner"] = SimpleNamespace(image_seconds=image_seconds)  # nothing is forwarded here
    return model


def encoded(model: ServedModel, num_images: int, deadline: float | None = None, **options: Any) -> Work:
    return Work.of_images(model, [b"an image"] * num_images, None, deadline, **options)


def ready(model: ServedModel, num_images: int, caller: str = "") -> Work:
    return Work(model, probe_images(model.base.image_size, num_images).numpy(), caller=caller)


def decoding(line: Line) -> Decoding:
    """What a thread is to do next, which must be an image."""
    step = line.next_step(wait=False) if line._pace.shared_cores else line.next_image()
    assert isinstance(step, Decoding)
    return step


def forwarding(line: Line) -> Forwarding:
    """What a core is to do next, which must be a batch."""
    step = line.next_step(wait=False)
    assert isinstance(step, Forwarding)
    return step


def decode(line: Line, num_images: int) -> None:
    for _ in range(num_images):
        line.decoded(decoding(line))


def forward(line: Line) -> Batch | None:
    """The batch that leaves now, done at once; None: none leaves."""
    if not line._pace.shared_cores:
        return line.next_batch(wait=False)
    step = line.next_step(wait=False)
    if step is None:
        return None
    assert isinstance(step, Forwarding)
    line.forwarded(step)
    return step.batch


def sizes(batch: Batch | None) -> list[int]:
    return [len(indices) for _, indices in batch or []]
