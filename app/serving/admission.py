"""How many images or texts may be in the engine at once, and when to come back if there are too many."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import QueueFullError

_RATE_WINDOW_SECONDS = 10.0
_LEAST_RETRY_SECONDS, _MOST_RETRY_SECONDS = 1, 30


class Rate:
    """Images that left lately, by the second."""

    def __init__(self) -> None:
        self._left: deque[tuple[float, int]] = deque()
        self._num_images = 0

    def count(self, num_images: int, now: float) -> None:
        """Count images that leave now, on the clock of `time.monotonic`."""
        self._left.append((now, num_images))
        self._num_images += num_images
        self._forget(now)

    def per_second(self, now: float) -> float | None:
        """Return images a second; None: too few have left lately to tell."""
        self._forget(now)
        if len(self._left) < 2:
            return None
        return self._num_images / max(now - self._left[0][0], 1e-3)

    def _forget(self, now: float) -> None:
        while self._left and self._left[0][0] < now - _RATE_WINDOW_SECONDS:
            self._num_images -= self._left.popleft()[1]


class Admission:
    """A bound on the images, or the texts, that are in the engine at once.

    Args:
        max_images: The bound.
        what: Is counted.
    """

    def __init__(self, max_images: int, what: str = "images") -> None:
        self._max_images = max_images
        self._what = what
        self._num_images = 0
        self._rate = Rate()
        self._lock = threading.Lock()

    @property
    def num_images(self) -> int:
        """Images in the engine now."""
        return self._num_images

    @contextmanager
    def hold(self, num_images: int) -> Iterator[None]:
        """Hold places for the images while the context lasts.

        Args:
            num_images: How many places.

        Yields:
            None: The places are free again when the context ends.

        Raises:
            QueueFullError: There are not enough; it tells when those that wait will probably be done.
        """
        with self._lock:
            if self._num_images + num_images > self._max_images:
                raise QueueFullError(self._num_images, self._retry_after_seconds(), self._what)
            self._num_images += num_images
        is_done = False
        try:
            yield
            is_done = True
        finally:
            with self._lock:
                self._num_images -= num_images
                if is_done:  # what was cancelled or refused tells nothing of the speed
                    self._rate.count(num_images, time.monotonic())

    def _retry_after_seconds(self) -> int:
        rate = self._rate.per_second(time.monotonic())
        seconds = math.ceil(self._num_images / rate) if rate else _LEAST_RETRY_SECONDS
        return min(max(seconds, _LEAST_RETRY_SECONDS), _MOST_RETRY_SECONDS)
