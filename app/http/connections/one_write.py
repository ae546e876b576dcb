"""A transport that writes the head and the body of a response in one call if both are available.

Each write to a socket is a system call, for which the event loop releases Python's lock and has to acquire it again,
and which wakes the client. uvicorn writes the head of a response separately, just before its body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

_HEAD = b"HTTP/1.1 "


class OneWrite:
    """A transport that buffers the head of a response until its body is written or the event loop goes on.

    Args:
        transport: The underlying transport.
        loop: The event loop.
        is_unread: Called before the connection is closed: whether the peer is still sending. Closing then would reset
            the connection, and the peer might never read its response.

    Attributes:
        num_written: Number of bytes, including those that wait to be sent.
        is_lingering: Nothing more will be written, but what the peer still sends is read.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, is_unread: Callable[[], bool] = bool
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._is_unread = is_unread
        self._head = b""
        self.num_written = 0
        self.is_lingering = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, after the buffered head."""
        self.num_written += len(data)
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif data.startswith(_HEAD):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Return whether nothing more can be written."""
        return self.is_lingering or self._transport.is_closing()

    def close(self) -> None:
        """Write the buffered head and close, or keep reading if the peer is still sending."""
        if self.is_lingering:
            return
        if self._is_unread():
            self.linger()
        else:
            self._flush()
            self._transport.close()

    def linger(self) -> None:
        """Write the buffered head, then signal the end of the response, but keep reading."""
        self._flush()
        self.is_lingering = True
        if self._transport.can_write_eof():  # not over TLS
            self._transport.write_eof()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)
