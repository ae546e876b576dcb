"""The checkpoint of a patch job, from which another attempt resumes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from worker.job_context import JobContext
from worker.messages import Checkpoint
from worker.progress import ProgressMeter


class PatchCheckpoint:
    """The checkpoint of a patch job: plain data that names large blobs. It starts with that of the context.

    Keys, each present once its stage has reached it: `state_sha256`, `state_key` and `step` (during a fine-tune: the
    training state, its run and its step), `task_vectors` and `final_losses` (finished runs by key), `points` (evaluated
    alphas by search), `timings_seconds`.
    """

    def __init__(self, context: JobContext, meter: ProgressMeter) -> None:
        self._context = context
        self._meter = meter
        self._value = dict(context.checkpoint)

    def get(self, key: str) -> Any:
        """Return a value that this or an earlier attempt saved, or None."""
        return self._value.get(key)

    def save(self, **values: Any) -> None:
        """Store values for this and later attempts; None removes one."""
        merged = self._value | values
        self._value = {key: value for key, value in merged.items() if value is not None}
        self._context.channel.send(Checkpoint(self._value))

    @property
    def value(self) -> dict[str, Any]:
        """All that was saved, as plain data."""
        return dict(self._value)

    @property
    def timings_seconds(self) -> dict[str, float]:
        """Seconds that each finished stage took, over all attempts that finished it."""
        return dict(self.get("timings_seconds") or {})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Enter a stage, and time it."""
        self._meter.enter(name)
        started = time.monotonic()
        yield
        spent = self.timings_seconds.get(name, 0.0) + time.monotonic() - started
        self.save(timings_seconds=self.timings_seconds | {name: round(spent, 3)})
