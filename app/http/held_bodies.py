"""A limit on the total size of the request bodies in memory.

Most routes read a body as a whole, up to `PAINTBOX_MAX_REQUEST_BYTES`. Clients that send most of such bodies and then
stop would fill the memory. Above the limit, the incomplete request with the largest body is rejected, whichever request
received the last byte, so that small requests are not rejected because of large ones.
"""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.errors import UnsupportedMediaTypeError
from app.http.middleware import PART_PREFIX, UPLOAD_PATH
from app.http.problems import known_problem

SMALL_BYTES = 1 << 20
"""A quarter of the memory is reserved for bodies up to this size."""

_CODINGS = {b"content-encoding": b"identity", b"transfer-encoding": b"chunked"}
"""Allowed values of these headers: bodies are not decompressed, so their size is that of the received bytes."""

_PLAIN = "it without compression"


class HeldBodies:
    """Rejects bodies for which there is no memory, and compressed ones.

    Args:
        app: The next application.
        max_bytes: Maximum total size of the bodies of unfinished requests, without uploads, which are written to disk.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._incomplete: dict[HeldBody, None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body counted, or refuse it."""
        has_body = False
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name in _CODINGS and value.strip().lower() != _CODINGS[name]:
                    error = UnsupportedMediaTypeError(f"{name.decode()} {value[:50].decode('latin-1')!r}", (_PLAIN,))
                    return await known_problem(scope["state"]["request_id"], error)(scope, receive, send)
                has_body = has_body or name in (b"content-length", b"transfer-encoding")
        if not has_body or is_streamed(scope["method"], scope["path"]):
            return await self._app(scope, receive, send)
        body = HeldBody(self, receive)
        try:
            await self._app(scope, body.receive, send)
        finally:
            self.release(body)

    def hold(self, body: HeldBody, num_bytes: int, is_complete: bool) -> None:
        """Count bytes of a body that arrived, and make room for them if necessary.

        Raises:
            HTTPException: This body is the one that has to be dropped.
        """
        self._num_bytes += num_bytes
        body.num_bytes += num_bytes
        if is_complete:
            self._incomplete.pop(body, None)
        else:
            self._incomplete[body] = None
        room = self._max_bytes if body.num_bytes <= SMALL_BYTES else self._max_bytes * 3 // 4
        while self._num_bytes > room:
            largest = max(self._incomplete, key=lambda each: each.num_bytes, default=body)
            if largest.num_bytes <= body.num_bytes:
                largest = body
            self.release(largest)
            if largest is body:
                raise self.full()
            largest.give_up()

    def release(self, body: HeldBody) -> None:
        """Forget the bytes of a body."""
        self._num_bytes -= body.num_bytes
        body.num_bytes = 0
        self._incomplete.pop(body, None)

    def full(self) -> HTTPException:
        """Return the error for a body for which there is no room; FastAPI passes on no other error of a body."""
        detail = f"Request bodies in memory have reached the limit of {self._max_bytes} bytes."
        return HTTPException(429, detail, {"Retry-After": "1", "Connection": "close"})


class HeldBody:
    """The body of one request, and the number of bytes that arrived so far."""

    def __init__(self, held: HeldBodies, receive: Receive) -> None:
        self.num_bytes = 0
        self._held = held
        self._receive = receive
        self._waiting: asyncio.Task[None] | None = None
        self._is_given_up = self._is_complete = False

    async def receive(self) -> Message:
        """Return the next ASGI message; a body's bytes are counted.

        Raises:
            HTTPException: There is no room for this body.
        """
        if self._is_complete:  # the next message is the disconnect
            return await self._receive()
        message = await self._receive_part()
        if self._is_given_up:
            raise self._held.full()
        if message["type"] == "http.request":
            self._is_complete = not message.get("more_body", False)
            self._held.hold(self, len(message.get("body", b"")), self._is_complete)
        return message

    def give_up(self) -> None:
        """Reject the request, whose handler may be waiting for more of the body."""
        self._is_given_up = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def _receive_part(self) -> Message:
        self._waiting = task = asyncio.current_task()
        try:
            return await self._receive()
        except asyncio.CancelledError:
            if self._is_given_up and task is not None and task.uncancel() == 0:
                raise self._held.full() from None
            raise  # cancelled from outside
        finally:
            self._waiting = None


def is_streamed(method: str, path: str) -> bool:
    """Return whether the body of a request is written to disk as it arrives."""
    return (method == "POST" and path.rstrip("/") == UPLOAD_PATH) or (
        method == "PATCH" and path.startswith(PART_PREFIX)
    )
