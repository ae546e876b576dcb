"""The threads that read and decode stored pictures, apart from those of requests to the model."""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypeVar

from app.http.dependencies import provided
from app.http.errors import QueueFullError

MAX_THREADS, MAX_WAITING = 2, 256
_Result = TypeVar("_Result")


class PictureWorkers:
    """A few threads with a bounded queue, of which one caller may fill half.

    Used from the event loop only.

    Args:
        num_threads: So many pictures are decoded at a time.
        max_waiting: Limit on requests that wait or are being processed.
    """

    def __init__(self, num_threads: int = MAX_THREADS, max_waiting: int = MAX_WAITING) -> None:
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix="paintbox-pictures")
        self._max_waiting = max_waiting
        self._waiting: Counter[str] = Counter()

    async def run(self, caller: str, work: Callable[[], _Result]) -> _Result:
        """Return the result of `work`, done in one of the threads.

        Args:
            caller: Whose turn it takes, as `app.access.callers.turn_of` names it.
            work: Blocks the thread.

        Raises:
            QueueFullError: Too much is waiting, in all or of this caller.
        """
        num_waiting = self._waiting.total()
        if num_waiting >= self._max_waiting or self._waiting[caller] >= self._max_waiting // 2:
            raise QueueFullError(num_waiting, what="pictures")
        self._waiting[caller] += 1
        try:
            context = contextvars.copy_context()
            return await asyncio.wrap_future(self._executor.submit(context.run, work))
        finally:
            self._waiting[caller] -= 1
            if not self._waiting[caller]:
                del self._waiting[caller]

    def close(self) -> None:
        """Cancel what waits, and wait for the threads to end."""
        self._executor.shutdown(cancel_futures=True)


PictureWorkersDep = Annotated[PictureWorkers, provided(PictureWorkers)]
