"""Changes that a thread announces and coroutines wait for."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress


class Changes:
    """A number that increases with every change.

    Read `number` before what may change: whoever then waits for a change since that number misses none.
    """

    def __init__(self) -> None:
        self._number = 0
        self._lock = threading.Lock()
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    @property
    def number(self) -> int:
        """The number of changes so far."""
        return self._number

    async def wait(self, number: int, seconds: float) -> None:
        """Return once there have been more changes than this number, or after some seconds."""
        event = asyncio.Event()
        with self._lock:
            if self._number != number:
                return
            self._waiting[event] = asyncio.get_running_loop()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), seconds)
        finally:
            with self._lock:
                self._waiting.pop(event, None)

    def announce(self) -> None:
        """Count a change, and wake whoever waits for one; any thread may call it."""
        with self._lock:
            self._number += 1
            for event, loop in self._waiting.items():
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(event.set)
