"""Long work on cores that requests need.

Building a version takes a core for tens of milliseconds to seconds. Under load that is all the capacity that is left:
requests queue up, and it takes ten times as long until the queue is short again. Done in small bits with rests between
them, the same work goes nearly unnoticed. Niceness does not help: a preempted thread may hold the GIL.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_BIT_SECONDS = 0.002
_SHARE = 0.1
_MOST_RESTED_SECONDS = 5.0


class Throttle:
    """Called often by one thread that does long work; sleeps when it is time to.

    Args:
        is_busy: Whether requests need the cores.
        share: Share of a core that the work may take while they do, in (0, 1].
        most_rested_seconds: Limit on the sum of all rests.
    """

    def __init__(
        self,
        is_busy: Callable[[], bool],
        share: float = _SHARE,
        most_rested_seconds: float = _MOST_RESTED_SECONDS,
    ) -> None:
        self._is_busy = is_busy
        self._share = share
        self._left = most_rested_seconds
        self._worked = time.thread_time()

    def __call__(self) -> None:
        """If requests need the cores, sleep as long as the share demands for the work since the last call."""
        worked = time.thread_time() - self._worked
        if worked < _BIT_SECONDS:
            return
        if self._is_busy():
            rest = min(self._left, worked * (1 / self._share - 1))
            self._left -= rest
            time.sleep(rest)
        self._worked = time.thread_time()
