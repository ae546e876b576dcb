"""Streaming responses to clients that may read slowly."""

from __future__ import annotations

import time

import anyio
import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import ContentStream, StreamingResponse
from starlette.types import Message, Send

_log = structlog.get_logger(__name__)


class TimedResponse(StreamingResponse):
    """A stream that is cut off if the client has not read all of it within so many seconds.

    `app.http.connections` cuts off a client that reads nothing at all sooner.
    """

    def __init__(self, content: ContentStream, seconds: float, media_type: str, headers: dict[str, str]) -> None:
        super().__init__(content, media_type=media_type, headers=headers)
        self._seconds = seconds

    async def stream_response(self, send: Send) -> None:
        """Send it."""
        until = time.monotonic() + self._seconds

        async def send_in_time(message: Message) -> None:
            with anyio.fail_after(max(0.0, until - time.monotonic())):
                await send(message)

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            _log.warning("client too slow", seconds=round(self._seconds))
            raise ClientDisconnect from None
