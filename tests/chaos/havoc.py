"""Strikes: which process dies when, all of it decided by a seed."""

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import psutil

from tests.chaos.installation import WORKERS, Installation

_DECK = ("trainer",) * 5 + ("worker",) * 3 + ("pool",) * 2 + ("valkey",) * 2 + ("api",)
EVERY_KIND = ("trainer", "worker", "pool", "valkey", "api")


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
        self.struck: Counter[str] = Counter()

    def maybe_strike(self) -> None:
        """Strike if it is time, and somebody is there to be struck."""
        if self._left and time.monotonic() >= self._next_at and self._strike(self._left[-1]):
            self.struck[self._left.pop()] += 1
            self._next_at = time.monotonic() + self._source.uniform(0, 2 * self._mean_seconds)

    def _strike(self, kind: str) -> bool:
        if kind == "worker":
            return self._installation.kill(self._source.choice(WORKERS))
        if kind in ("valkey", "api"):
            return self._installation.kill(kind)
        find = self._installation.trainers if kind == "trainer" else self._installation.pool_processes
        return self._kill_one(find)

    def _kill_one(self, find: Callable[[], list[psutil.Process]]) -> bool:
        found = find()
        with suppress(psutil.Error):
            if found:
                self._source.choice(found).kill()
                return True
        return False
