"""Deadlines of requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from app.http.errors import DeadlineExceededError


@asynccontextmanager
async def until(deadline: float | None, waited_for: Callable[[], str]) -> AsyncIterator[None]:
    """Cancel what is awaited inside once the deadline has passed.

    Args:
        deadline: On the clock `time.monotonic()`; None: never.
        waited_for: Called then for the error's text, such as "version 3 was loaded".

    Yields:
        None: What is awaited inside may be cancelled.

    Raises:
        DeadlineExceededError: The deadline has passed.
    """
    if deadline is None:
        yield
        return
    timeout = asyncio.timeout(deadline - time.monotonic())
    try:
        async with timeout:
            yield
    except TimeoutError as error:
        if timeout.expired():
            raise DeadlineExceededError(waited_for()) from error
        raise
