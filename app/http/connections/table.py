"""The open connections of a server, and one timer for all of them."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from typing import Protocol

from app.http.connections.limits import ConnectionLimits


class Connection(Protocol):
    """The interface of a connection for the table."""

    def check(self, now: float) -> None:
        """End it if its peer has exceeded a time limit."""

    def postpone(self, seconds: float) -> None:
        """Give its peer more time: the event loop was busy and could not read."""

    def crowd_out(self) -> None:
        """End it, because others need its place."""

    def turn_away(self) -> None:
        """Reject it, because there are too many."""


class Connections:
    """The open connections of a server.

    One timer serves all of them, because a timer for each would be set and cancelled with every request.

    Attributes:
        limits: Limits of each connection, and their maximum number.
        waiting: Connections without a complete request, the one that was silent longest first.
        ended: How many were ended, by reason.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.waiting: OrderedDict[Connection, None] = OrderedDict()
        self.ended: Counter[str] = Counter()
        self._open: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        """Add a connection; if there are too many, end the waiting one that was silent longest."""
        first = next(iter(self.waiting), None)
        self._open.add(connection)
        self.waiting[connection] = None
        if self._timer is None:
            self._wait(loop)
        if len(self._open) > self.limits.max_connections:
            if first is None:
                connection.turn_away()
            else:
                first.crowd_out()

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        self.waiting.pop(connection, None)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + self.limits.sweep_seconds
        self._timer = loop.call_at(self._due, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        late = now - self._due
        for connection in tuple(self._open):
            if late > self.limits.sweep_seconds:  # the event loop was busy: data may be waiting
                connection.postpone(late)
            connection.check(now)
        self._timer = None
        if self._open:
            self._wait(loop)
