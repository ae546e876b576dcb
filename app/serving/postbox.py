"""The way of answers from the engine's threads to an event loop: those of a batch in one go.

`asyncio.wrap_future` wakes the loop for each answer by itself, and the answers of a batch come together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, TypeVar

_Answer = TypeVar("_Answer")


class Postbox(Generic[_Answer]):
    """Brings answers to one event loop.

    Args:
        loop: Where they are awaited.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._arrived: deque[tuple[asyncio.Future[None], Future[_Answer]]] = deque()
        self._is_called = False  # whether the loop is about to look; two threads may both call it, which does no harm

    async def wait(self, answer: Future[_Answer]) -> _Answer:
        """Return an answer, or raise what it is, once it is there; on the event loop's thread only.

        Args:
            answer: Cancelled, if whoever waits for it is.

        Returns:
            Its result.
        """
        waiter: asyncio.Future[None] = self.loop.create_future()
        answer.add_done_callback(lambda done: self._put(waiter, done))
        try:
            await waiter
        except asyncio.CancelledError:
            answer.cancel()
            raise
        return answer.result()

    def _put(self, waiter: asyncio.Future[None], answer: Future[_Answer]) -> None:
        self._arrived.append((waiter, answer))
        if not self._is_called:
            self._is_called = True
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self.loop.call_soon_threadsafe(self._hand_out)

    def _hand_out(self) -> None:
        self._is_called = False
        while self._arrived:
            waiter, answer = self._arrived.popleft()
            if waiter.done():
                continue
            if answer.cancelled():
                waiter.cancel()
            else:
                waiter.set_result(None)
