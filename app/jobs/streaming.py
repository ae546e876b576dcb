"""A job as it happens, as server-sent events (HTML Living Standard, section 9.2).

The events of a job are in the database, with ids in the order of commits, because a transaction that adds an event
holds the job's row. So a stream is a view of a table: after a disconnect it continues after the last id that the client
saw, in this process or another one, without loss or repetition.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Self

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from app.http.dependencies import provided
from app.http.errors import TooManyStreamsError
from app.http.timed_response import TimedResponse
from app.jobs.feeds import PAGE, JobFeeds, write_events
from contract.jobs import JobStatus
from registry.database import Database
from registry.jobs import Jobs

KEEP_ALIVE_SECONDS = 15.0
_MAX_SECONDS = 600.0
"""Maximum duration of a stream, after which its client reconnects: bounds streams that a proxy left open."""

RETRY_MILLISECONDS = 1000
_UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second is nginx's


class EventStreams:
    """The open event streams of this process, and their maximum number, in all and of one owner."""

    def __init__(self, database: Database, max_streams: int, max_streams_of_one: int = 20) -> None:
        self._database = database
        self._feeds = JobFeeds(database)
        self._max_streams = max_streams
        self._max_streams_of_one = max_streams_of_one
        self._open: Counter[str | None] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let every stream end soon; the clients reconnect to another process."""
        self._stopping.set()
        self._feeds.wake()

    def has_ended(self, job_id: str, after: int) -> bool:
        """Return whether a job has ended and has no event after `after`."""
        with self._database.read() as session:
            jobs = Jobs(session)
            return JobStatus(jobs.get(job_id).status).ended and not jobs.events(job_id, after, 1)

    def open(self, job_id: str, after: int, owner: str | None = None) -> EventStream:
        """Return a stream: events by their ids, and the job in an event `job` whenever it changed.

        It ends once the job has ended and everything was sent; errors as for `admit`.

        Args:
            job_id: A job that exists.
            after: The last event that the client has seen.
            owner: By the name on the key; None: not counted.
        """
        return self.admit(self.chunks(job_id, after), owner)

    def admit(self, chunks: AsyncIterator[bytes], owner: str | None = None) -> EventStream:
        """Return a stream of these bytes, which counts as open until it is closed.

        Raises:
            TooManyStreamsError: The maximum number of streams is open, in all or of this owner.
        """
        with self._lock:
            num_open = self._open.total()
            if num_open >= self._max_streams or (owner is not None and self._open[owner] >= self._max_streams_of_one):
                raise TooManyStreamsError(num_open if owner is None else self._open[owner])
            self._open[owner] += 1
        return EventStream(chunks, partial(self._leave, owner))

    def continues(self, opened: float) -> bool:
        """Return whether a stream that was opened at this time of the monotonic clock should go on."""
        return not self._stopping.is_set() and time.monotonic() - opened < _MAX_SECONDS

    def _leave(self, owner: str | None) -> None:
        with self._lock:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]

    async def chunks(self, job_id: str, after: int) -> AsyncIterator[bytes]:
        """Yield the bytes of a stream."""
        yield format_sse_event(retry=RETRY_MILLISECONDS)
        shown, opened = b"", time.monotonic()
        last_sent = opened
        with self._feeds.follow(job_id) as feed:
            while self.continues(opened):
                view = feed.view(after)
                events = view.events
                if events is None:
                    events = await run_in_threadpool(self._page, job_id, after)
                    after = after if events else view.floor
                after = events[-1][0] if events else after
                chunks = [each for _, each in events]
                if view.state not in (b"", shown):
                    chunks.append(view.state)
                    shown = view.state
                if chunks:
                    yield b"".join(chunks)
                    last_sent = time.monotonic()
                if view.has_ended:
                    return
                if view.events is not None:
                    await feed.changed(view.number, max(0.0, last_sent + KEEP_ALIVE_SECONDS - time.monotonic()))
                if time.monotonic() - last_sent >= KEEP_ALIVE_SECONDS:
                    yield KEEPALIVE_COMMENT
                    last_sent = time.monotonic()

    def _page(self, job_id: str, after: int) -> list[tuple[int, bytes]]:
        with self._database.read() as session:
            return write_events(Jobs(session).events(job_id, after, PAGE))


class EventStream:
    """An open stream of server-sent events."""

    def __init__(self, chunks: AsyncIterator[bytes], leave: Callable[[], None]) -> None:
        self._chunks = chunks
        self._leave = leave
        self._is_open = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """Send no more, and free the place."""
        if self._is_open:
            self._is_open = False
            self._leave()
            await self._chunks.aclose()  # type: ignore[attr-defined]


def wants_stream(request: Request) -> bool:
    """Return whether a request asks for a stream of events."""
    accepted = (part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "").split(","))
    return "text/event-stream" in accepted


class EventStreamResponse(TimedResponse):
    """The response that sends a stream, and closes it however the response ends."""

    def __init__(self, stream: EventStream) -> None:
        super().__init__(stream, _MAX_SECONDS + KEEP_ALIVE_SECONDS, "text/event-stream", _UNBUFFERED)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._stream.aclose()


EventStreamsDep = Annotated[EventStreams, provided(EventStreams)]
