"""uvicorn's HTTP/1.1 protocol with limits on size and time.

uvicorn limits neither the size of a head nor the time of a silent peer, closes connections whose peer is still sending
(which resets them), and starts any number of pipelined requests. The timer of `app.http.connections.table.Connections`
enforces all time limits, so a request costs only a few comparisons.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import socket
import struct
import termios
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import httptools
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.http.connections.one_write import OneWrite
from app.http.connections.refusals import (
    BAD_REQUEST,
    BODY_TIMEOUT,
    HEAD_TIMEOUT,
    HEAD_TOO_LARGE,
    TOO_MANY_CONNECTIONS,
    TOO_MANY_PIPELINED,
    Refusal,
    render,
)
from app.http.connections.table import Connections

_IDLE, _HEAD, _BODY = range(3)
"""What is expected: the first byte of a request, the rest of its head, the rest of its body."""

_FRAMING = 16
"""Allowed bytes of chunk framing per byte of the body: a chunk may hold a single byte."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection; the options are those that uvicorn passes."""

    transport: OneWrite  # type: ignore[assignment]

    def __init__(self, connections: Connections, **options: Any) -> None:
        super().__init__(**options)
        self._connections = connections
        self._limits = connections.limits
        self._phase = _IDLE
        self._overhead = 0  # bytes outside the body since its last byte
        self._fed = 0  # the same, with the chunk that is being parsed
        self._drained = 0
        self._read_by = self._drain_by = self._send_by = math.inf
        self._num_taken = 0
        self._refusal: Refusal | None = None
        self._answered: RequestResponseCycle | None = None  # the request that others are pipelined behind

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop."""
        super().connection_made(OneWrite(transport, self.loop, self._is_unread))  # type: ignore[arg-type]
        self._read_by = self.loop.time() + self._limits.head_seconds
        self._connections.add(self, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._connections.remove(self)
        self._disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if self.transport.is_lingering:
            return self._drain(len(data))
        self._fed = self._overhead = self._overhead + len(data)
        if self._phase is _BODY:
            if self.cycle.response_complete:
                self._drain(len(data))
            else:
                now, limits = self.loop.time(), self._limits
                more = len(data) / limits.min_bytes_per_second
                self._read_by = min(now + limits.body_seconds, self._read_by + more)
                if self in self._connections.waiting:
                    self._connections.waiting.move_to_end(self)
        self._feed(data)
        if self._phase is _IDLE:
            self._overhead = 0
        elif self._overhead > self._limits.max_head_bytes:
            self._refuse(HEAD_TOO_LARGE)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._refusal or BAD_REQUEST)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse a request again without its wish for another protocol, for which the parser has skipped its body.

        Java's client wishes for HTTP/2 in each of its requests.
        """
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"%s\r\n%s" % (b"".join(lines), rest))

    def on_message_begin(self) -> None:
        """Called by the parser."""
        super().on_message_begin()
        self._phase = _HEAD
        if not self._is_answering():
            self._read_by = min(self._read_by, self.loop.time() + self._limits.head_seconds)

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if len(self.headers) > self._limits.max_headers or (
            self._fed > self._limits.max_head_bytes and self._head_bytes() > self._limits.max_head_bytes
        ):
            self._give_up(HEAD_TOO_LARGE)
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._give_up(BAD_REQUEST)
            return  # the parser would skip the body: see `_ignore_upgrade`
        if self.url[:1] != b"/" and self.url != b"*":
            self._read_absolute_url()
        if self._is_answering():
            self._answered = self._answered or self.cycle
            if len(self.pipeline) >= self._limits.max_pipelined:
                self._give_up(TOO_MANY_PIPELINED)
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0":
            self.cycle.send = partial(_send_until_close, self.cycle, self.cycle.send)  # type: ignore[method-assign]
        self.headers = []  # trailers, which come after this, are no headers
        self._phase = _BODY
        self._overhead = self._drained = 0
        self._read_by = self.loop.time() + self._limits.body_seconds

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        super().on_body(body)
        self._overhead = max(0, self._overhead - (1 + _FRAMING) * len(body))

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._phase is _HEAD:  # a request to upgrade, which is parsed again without that
            return
        super().on_message_complete()
        self._phase = _IDLE
        if self.cycle.response_complete:
            self._await_request()
        else:
            self._read_by = math.inf
            self._connections.waiting.pop(self, None)

    def on_response_complete(self) -> None:
        """Called by the request, once it has been answered."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:  # read nothing more, to bound their number
            self._answered, app = self.pipeline.pop()
            self._start_asgi_task(self._answered, app)
            return
        self._answered = None
        self.flow.resume_reading()
        self._await_request()

    def shutdown(self) -> None:
        """Called when the server is about to stop."""
        if self.transport.is_lingering:
            self.transport.abort()
        else:
            super().shutdown()

    def check(self, now: float) -> None:
        """End the connection if its peer has exceeded a time limit."""
        if now > self._read_by:
            self._on_silence(now)
        self._check_sending(now, self.transport.get_write_buffer_size())

    def postpone(self, seconds: float) -> None:
        """Give the peer more time: the event loop was busy and could not read."""
        self._read_by += seconds
        self._drain_by += seconds
        self._send_by += seconds

    def crowd_out(self) -> None:
        """End the connection, which has no complete request, in favour of others."""
        self._end("crowded_out")

    def turn_away(self) -> None:
        """Reject the connection, because there are too many."""
        self._refuse(TOO_MANY_CONNECTIONS)

    def _on_silence(self, now: float) -> None:
        if self.transport.is_lingering:
            self._end("drain")
        elif self.transport.is_closing():
            self._read_by = math.inf
        elif self._phase is _IDLE:
            self.transport.close()
        elif self._phase is _HEAD:
            self._refuse(HEAD_TIMEOUT)
        elif self.cycle.response_complete:
            self._end("drain")
        elif self.flow.read_paused or self.cycle.waiting_for_100_continue:  # the service is slow, not the client
            self._read_by = now + self._limits.body_seconds
        else:
            self._refuse(BODY_TIMEOUT)

    def _check_sending(self, now: float, num_waiting: int) -> None:
        """End the connection if its peer does not read the response."""
        if not num_waiting:
            self._send_by = math.inf
            return
        taken = self.transport.num_written - num_waiting - self._num_in_kernel()
        latest = now + self._limits.send_seconds
        progress = max(0, taken - self._num_taken) / self._limits.min_bytes_per_second
        self._send_by = min(latest, self._send_by + progress)
        self._num_taken = taken
        if now > self._send_by:
            with suppress(OSError, AttributeError):  # discard the kernel's send buffer, too
                option = struct.pack("ii", 1, 0)
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
            self._end("send_timeout")

    def _num_in_kernel(self) -> int:
        """Return how many bytes the system has taken that the peer has not."""
        try:
            told = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        except (OSError, AttributeError):  # not supported by the system
            return 0
        return int(struct.unpack("i", told)[0])

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_unread(self) -> bool:
        """Return whether part of an answered request's body is still to come; if so, read on."""
        if self._phase is not _BODY or not self.cycle.response_complete:
            return False
        self._start_draining()
        return True

    def _await_request(self) -> None:
        """Wait for the next request, after discarding what is left of the previous request's body."""
        if self._phase is _BODY:
            self._start_draining()
        elif self._phase is _HEAD:
            self._read_by = self.loop.time() + self._limits.head_seconds
        else:
            self._read_by = self.loop.time() + self._limits.keep_alive_seconds
        self._connections.waiting[self] = None

    def _start_draining(self) -> None:
        now = self.loop.time()
        self._drain_by = now + self._limits.drain_seconds
        self._read_by = min(self._drain_by, now + self._limits.drain_pause_seconds)
        self._connections.waiting[self] = None
        self.flow.resume_reading()

    def _drain(self, num_bytes: int) -> None:
        self._drained += num_bytes
        self._read_by = min(self._drain_by, self.loop.time() + self._limits.drain_pause_seconds)
        if self._drained > self._limits.max_drain_bytes:
            self._end("drain")

    def _read_absolute_url(self) -> None:
        """Use the host of an absolute URL as the header `Host` (RFC 9112, section 3.2.2)."""
        url = httptools.parse_url(self.url)
        if url.host is None or url.userinfo is not None:
            self._give_up(BAD_REQUEST)
        host = b"[%s]" % url.host if b":" in url.host else url.host
        host = host if url.port is None else b"%s:%d" % (host, url.port)
        self.headers[:] = [(b"host", host), *(header for header in self.headers if header[0] != b"host")]

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _give_up(self, refusal: Refusal) -> None:
        """Make the parser fail with this refusal, which `_feed` sends."""
        self._refusal = refusal
        raise ValueError(refusal.code)

    def _refuse(self, refusal: Refusal) -> None:
        """Send the refusal if that is still possible, and close the connection once the peer has read it."""
        if self.transport.is_closing():
            return
        can_answer = not self._is_answering() or (
            self._phase is _BODY and self._answered is None and not self.cycle.response_started
        )
        if not can_answer:
            return self._end(refusal.code)
        self._connections.ended[refusal.code] += 1
        self._disconnect()
        self.transport.write(render(refusal, self.server_state.default_headers))
        self.transport.linger()
        self._start_draining()

    def _end(self, reason: str) -> None:
        self._connections.ended[reason] += 1
        self._connections.waiting.pop(self, None)
        self._disconnect()
        self.transport.abort()

    def _disconnect(self) -> None:
        """Tell all requests of this connection that the client has disconnected."""
        for cycle in self._unfinished():
            cycle.disconnected = True
            cycle.message_event.set()
        self.pipeline.clear()
        self.flow.resume_writing()

    def _unfinished(self) -> Iterator[RequestResponseCycle]:
        if self._is_answering():
            yield self.cycle
        if self._answered is not None:
            yield self._answered


async def _send_until_close(
    cycle: RequestResponseCycle, send: Callable[[ASGISendEvent], Awaitable[None]], message: ASGISendEvent
) -> None:
    """Send a response of unknown length as in HTTP/1.0: it ends with the connection."""
    if message["type"] == "http.response.start":
        if all(name.lower() != b"content-length" for name, _ in message.get("headers", ())):
            cycle.chunked_encoding = False
            cycle.ends_with_connection = True  # type: ignore[attr-defined]
    elif message["type"] == "http.response.body" and hasattr(cycle, "ends_with_connection"):
        cycle.expected_content_length = len(message.get("body", b""))
    await send(message)
