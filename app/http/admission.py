"""How much may be in the engine at once, and when to retry if there is too much."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.http.errors import QueueFullError

_RATE_WINDOW_SECONDS = 10.0
_BUSY_SECONDS = 0.2
_MIN_RETRY_SECONDS, _MAX_RETRY_SECONDS = 1, 30


class Admission:
    """A limit on what is in the engine at once, such as images, with room for each caller.

    One caller may use all of it. Others who come then are admitted up to an equal share, and up to twice the limit in
    all, so that one caller does not lock out the others.

    Args:
        max_images: The limit.
        what: What is counted, for errors.
        unit: How many of what is counted make one of what errors say.
        clock: Returns the time in seconds.
    """

    def __init__(
        self, max_images: int, what: str = "images", unit: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_images = max_images
        self._what = what
        self._unit = unit
        self._clock = clock
        self._num_images = 0
        self._held: dict[str, int] = {}  # by caller
        self._left: deque[tuple[float, int]] = deque()  # when how many left lately
        self._num_left = 0
        self._lock = threading.Lock()

    @property
    def num_images(self) -> int:
        """Images in the engine now."""
        return self._num_images

    @property
    def is_busy(self) -> bool:
        """Whether there is something in the engine, or was a moment ago: between two requests it stays busy."""
        with self._lock:
            lately = self._clock() - _BUSY_SECONDS
            return self._num_images > 0 or bool(self._left and self._left[-1][0] > lately)

    @contextmanager
    def hold(self, num_images: int, caller: str = "") -> Iterator[None]:
        """Hold places while the context lasts; an empty caller is nobody that others have to leave room for."""
        self.enter(num_images, caller)
        is_done = False
        try:
            yield
            is_done = True
        finally:
            self.leave(num_images, caller, is_done=is_done)

    def enter(self, num_images: int, caller: str) -> None:
        """Take places until `leave` is called; `QueueFullError` if there are not enough."""
        with self._lock:
            own = self._held.get(caller, 0) + num_images
            if self._num_images + num_images > self._max_images and not self._has_share(own, caller, num_images):
                raise QueueFullError(self._num_images // self._unit, self._retry_after_seconds(), self._what)
            self._num_images += num_images
            self._held[caller] = own

    def leave(self, num_images: int, caller: str, *, is_done: bool) -> None:
        """Give places back; what was cancelled or refused does not count for the rate."""
        with self._lock:
            self._num_images -= num_images
            self._held[caller] -= num_images
            if not self._held[caller]:
                del self._held[caller]
            if is_done:
                self._left.append((self._clock(), num_images))
                self._num_left += num_images
                self._expire()

    def _has_share(self, own: int, caller: str, num_images: int) -> bool:
        """Return whether a caller would have no more than an equal share, although the limit is reached."""
        num_others = len(self._held.keys() - {caller, ""})
        is_shared = num_others > 0 and own * (num_others + 1) <= self._max_images
        return is_shared and self._num_images + num_images <= 2 * self._max_images

    def _retry_after_seconds(self) -> int:
        self._expire()
        if len(self._left) < 2:
            return _MIN_RETRY_SECONDS
        left_per_second = self._num_left / max(self._clock() - self._left[0][0], 1e-3)
        return min(max(math.ceil(self._num_images / left_per_second), _MIN_RETRY_SECONDS), _MAX_RETRY_SECONDS)

    def _expire(self) -> None:
        while self._left and self._left[0][0] < self._clock() - _RATE_WINDOW_SECONDS:
            self._num_left -= self._left.popleft()[1]
