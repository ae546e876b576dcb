"""How much may be in the engine at once, and when to come back if there are too many."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from app.http.errors import QueueFullError

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
    """A bound on what is in the engine at once, such as images, with room for each caller.

    One caller may fill all of it. Whoever comes then and has less in the engine than an equal share is still let in, up
    to twice the bound, so that one caller does not keep the others out.

    Args:
        max_images: The bound.
        what: Is counted.
        unit: How many of what is counted are one of what is told.
    """

    def __init__(self, max_images: int, what: str = "images", unit: int = 1) -> None:
        self._max_images = max_images
        self._what = what
        self._unit = unit
        self._num_images = 0
        self._held: dict[str, int] = {}  # by caller
        self._rate = Rate()
        self._lock = threading.Lock()

    @property
    def num_images(self) -> int:
        """Images in the engine now."""
        return self._num_images

    @contextmanager
    def hold(self, num_images: int, caller: str = "") -> Iterator[None]:
        """Hold places for the images while the context lasts.

        Args:
            num_images: How many places.
            caller: Who holds them; empty: nobody that others have to leave room for.

        Yields:
            None: The places are free again when the context ends.
        """
        self.enter(num_images, caller)
        is_done = False
        try:
            yield
            is_done = True
        finally:
            self.leave(num_images, caller, is_done=is_done)

    def enter(self, num_images: int, caller: str) -> None:
        """Take places, until `leave` is called; raises as `hold` does."""
        with self._lock:
            own = self._held.get(caller, 0) + num_images
            if self._num_images + num_images > self._max_images and not self._has_share(own, caller, num_images):
                raise QueueFullError(self._num_images // self._unit, self._retry_after_seconds(), self._what)
            self._num_images += num_images
            self._held[caller] = own

    def leave(self, num_images: int, caller: str, *, is_done: bool) -> None:
        """Give back places that `enter` took; what was cancelled or refused tells nothing of the speed."""
        with self._lock:
            self._num_images -= num_images
            self._held[caller] -= num_images
            if not self._held[caller]:
                del self._held[caller]
            if is_done:
                self._rate.count(num_images, time.monotonic())

    def _has_share(self, own: int, caller: str, num_images: int) -> bool:
        """Return whether a caller would have no more than an equal share, although the bound is reached."""
        num_others = len(self._held.keys() - {caller, ""})
        is_shared = num_others > 0 and own * (num_others + 1) <= self._max_images
        return is_shared and self._num_images + num_images <= 2 * self._max_images

    def _retry_after_seconds(self) -> int:
        rate = self._rate.per_second(time.monotonic())
        seconds = math.ceil(self._num_images / rate) if rate else _LEAST_RETRY_SECONDS
        return min(max(seconds, _LEAST_RETRY_SECONDS), _MOST_RETRY_SECONDS)
