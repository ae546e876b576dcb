"""Clients that disconnect before their response: work for them is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.requests import ClientDisconnect


@asynccontextmanager
async def cancelled_when_gone(request: Request) -> AsyncIterator[None]:
    """Cancel what is awaited inside as soon as the client disconnects; the request's body was read before.

    Yields:
        None: What is awaited inside may be cancelled.

    Raises:
        ClientDisconnect: The client has disconnected; the log says 499, and no response is sent.
    """
    task = asyncio.current_task()
    assert task is not None
    watcher = asyncio.create_task(_wait_until_gone(request))

    def leave(ended: asyncio.Task[None]) -> None:
        if not ended.cancelled():
            task.cancel()

    watcher.add_done_callback(leave)
    try:
        yield
    except asyncio.CancelledError:
        if watcher.done() and not watcher.cancelled() and task.uncancel() == 0:
            raise ClientDisconnect() from None
        raise  # cancelled from outside
    finally:
        watcher.remove_done_callback(leave)  # outside, nothing is cancelled
        watcher.cancel()


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
