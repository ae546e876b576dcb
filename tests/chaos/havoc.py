"""Strikes: which process dies when, all of it decided by a seed."""

import random
import time
from collections import Counter
from contextlib import suppress

import psutil

from tests.chaos.installation import WORKERS, Installation

_DECK = ("trainer",) * 5 + ("worker",) * 3 + ("pause",) * 2 + ("valkey",) * 2 + ("api",) * 2
EVERY_KIND = ("trainer", "worker", "pause", "valkey", "api")
_PAUSE_SECONDS = 5.0  # longer than a lease: when the worker goes on, another one has its job


class Havoc:
    """Strikes at random moments, as long as there are strikes left.

    Each kind of process is struck once at least.
    """

    def __init__(
        self, installation: Installation, source: random.Random, num_strikes: int, mean_seconds: float
    ) -> None:
        self._installation = installation
        self._source = source
        self._mean_seconds = mean_seconds
        self._left = [*EVERY_KIND, *(source.choice(_DECK) for _ in range(num_strikes - len(EVERY_KIND)))]
        source.shuffle(self._left)
        self._next_at = time.monotonic() + mean_seconds
        self._paused: tuple[str, float] | None = None
        self.struck: Counter[str] = Counter()

    def maybe_strike(self) -> None:
        """Strike if it is time, and somebody is there to be struck."""
        if self._paused and time.monotonic() >= self._paused[1]:
            self._installation.resume(self._paused[0])
            self._paused = None
        if self._left and time.monotonic() >= self._next_at and self._strike(self._left[-1]):
            self.struck[self._left.pop()] += 1
            self._next_at = time.monotonic() + self._source.uniform(0, 2 * self._mean_seconds)

    def _strike(self, kind: str) -> bool:
        if kind == "worker":
            return self._installation.kill(self._source.choice(WORKERS))
        if kind in ("valkey", "api"):
            return self._installation.kill(kind)
        return self._pause_one() if kind == "pause" else self._kill_trainer()

    def _pause_one(self) -> bool:
        name = self._source.choice(WORKERS)
        if self._paused is not None or not self._installation.pause(name):
            return False
        self._paused = (name, time.monotonic() + _PAUSE_SECONDS)
        return True

    def _kill_trainer(self) -> bool:
        found = self._installation.trainers()
        with suppress(psutil.Error):
            if found:
                self._source.choice(found).kill()
                return True
        return False
