"""Progress of a job in units of work, and its ETA from the speed measured in this attempt."""

from __future__ import annotations

import time
from collections.abc import Callable

from worker.messages import Progress

_LEAST_SECONDS = 0.2


class ProgressMeter:
    """Adds up completed work and reports it at most five times a second.

    Args:
        send: Receives the reports.
        total: Units of work of the whole job; one unit is one image through the image tower, once.
        clock: Monotonic seconds.
    """

    def __init__(
        self, send: Callable[[Progress], None], total: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send = send
        self._total = max(total, 1e-9)
        self._clock = clock
        self._done = 0.0
        self._measured = 0.0
        self._started = clock()
        self._last_sent = float("-inf")
        self._stage = ""

    def enter(self, stage: str) -> None:
        """Name the stage that the next work belongs to."""
        self._stage = stage
        self._last_sent = float("-inf")
        self.advance(0)

    def skip(self, units: float) -> None:
        """Count work that an earlier attempt did; it says nothing of the speed of this one."""
        self._done += units

    def advance(self, units: float) -> None:
        """Count finished work and report it if the last report is old enough."""
        self._done += units
        self._measured += units
        now = self._clock()
        if now - self._last_sent >= _LEAST_SECONDS:
            self._last_sent = now
            self._send(Progress(self._stage, self.fraction, self._eta_seconds(now)))

    @property
    def fraction(self) -> float:
        """Share of the job that is done, in [0, 1)."""
        return min(self._done / self._total, 0.999)

    def _eta_seconds(self, now: float) -> float | None:
        elapsed = now - self._started
        if self._measured <= 0 or elapsed < 1.0:
            return None
        return round(max(self._total - self._done, 0.0) * elapsed / self._measured, 1)
