"""Long work beside requests that need the same cores.

A version that is built takes a core for tens of milliseconds or seconds. Under load that is all that was left: requests
pile up, and it takes ten times as long until the pile is gone. In small bits, most of the time at rest, the same work
goes nearly unnoticed. Niceness does not do that: whoever is preempted may hold Python's lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_BIT_SECONDS = 0.002
_SHARE = 0.1
_MOST_RESTED_SECONDS = 5.0


class Throttle:
    """To be called often by one thread that does something long; it waits if it is time to.

    Args:
        has_pending: Whether others need the cores.
        share: What the work may take of a core while they do, in (0, 1].
        most_rested_seconds: How much longer it may take in all because of that.
    """

    def __init__(
        self,
        has_pending: Callable[[], bool],
        share: float = _SHARE,
        most_rested_seconds: float = _MOST_RESTED_SECONDS,
    ) -> None:
        self._is_pressed = has_pending
        self._share = share
        self._left = most_rested_seconds
        self._worked = time.thread_time()

    def __call__(self) -> None:
        """Wait as long as the share demands for what this thread has worked since the last time, if others press."""
        worked = time.thread_time() - self._worked
        if worked < _BIT_SECONDS:
            return
        if self._is_pressed():
            rest = min(self._left, worked * (1 / self._share - 1))
            self._left -= rest
            time.sleep(rest)
        self._worked = time.thread_time()
