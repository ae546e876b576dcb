"""HTTP/1.1 with the head and the body of an answer in one write, where both are there.

Each write to a socket is a system call, for which the event loop lets go of Python's lock and stands in line for it
again, and wakes the client. uvicorn writes the head of an answer by itself, a moment before its body.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD = b"HTTP/1.1 "


class OneWriteProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which writes through `OneWrite`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop."""
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]


class OneWrite:
    """A transport that holds the head of an answer back until its body is written, or the event loop goes on.

    Args:
        transport: What writes.
        loop: The event loop.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, after what was held back."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif data.startswith(_HEAD):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Write what was held back, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)
