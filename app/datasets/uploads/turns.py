"""The request that is appending to an upload, so that a reconnecting sender can end one that hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from app.http.errors import UploadRefusedError


class Turn:
    """A request that appends to an upload until its body ends, its sender pauses too long or a newer one takes over."""

    def __init__(self, silent_seconds: float) -> None:
        self._silent_seconds = silent_seconds
        self._loop = asyncio.get_running_loop()
        self._limit: asyncio.Timeout | None = None
        self._ended = False
        self._heard_at = time.monotonic()

    @property
    def silence_seconds(self) -> float:
        """How long the sender has sent nothing."""
        return time.monotonic() - self._heard_at

    def end(self) -> None:
        """Let the request end with the bytes received so far; thread-safe."""
        self._ended = True
        self._loop.call_soon_threadsafe(self._wake)

    async def receive(self, parts: AsyncIterator[bytes]) -> bytes | None:
        """Return the next chunk of the body, or None at its end.

        Raises:
            UploadRefusedError: A newer request has taken over, or the sender paused for too long.
        """
        try:
            if self._ended:
                raise TimeoutError
            async with asyncio.timeout(self._silent_seconds) as self._limit:
                part = await anext(parts, None)
        except TimeoutError:
            raise self._refusal() from None
        finally:
            self._limit = None
        self._heard_at = time.monotonic()
        return part

    def _wake(self) -> None:
        if self._limit is not None:
            self._limit.reschedule(self._loop.time())

    def _refusal(self) -> UploadRefusedError:
        if self._ended:
            return UploadRefusedError(
                "upload_taken_over",
                "A newer request continues this upload.",
                "Get the offset with HEAD, and send one part at a time.",
            )
        return UploadRefusedError(
            "upload_stalled",
            f"No data was received for {self._silent_seconds:g} s. Received bytes are kept.",
            "Get the offset with HEAD, then resume there.",
        )
