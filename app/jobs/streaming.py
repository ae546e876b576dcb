"""A job as it happens, as server-sent events (HTML Living Standard, section 9.2).

What happened to a job is in the database, with ids that rise in the order of commits, since whoever adds an event holds
the job's row. So a stream is a view of a table: cut at any place, it goes on after the last id that the client saw, in
this process or another, and nothing is lost or comes twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Sequence

import anyio
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool

from app.errors import TooManyStreamsError
from app.jobs.schemas import Job, JobEvent
from registry.contract import JobStatus
from registry.database import Database
from registry.jobs import Jobs
from registry.tables import JobEventRow, JobRow

_LOOK_SECONDS = 0.25
_KEEP_ALIVE_SECONDS = 15.0
_MAX_SECONDS = 600.0
"""A stream ends then, and its client connects again: what a proxy forgot to close is not kept for ever."""

_RETRY_MILLISECONDS = 1000
_PAGE = 500


class EventStreams:
    """The open streams of this process.

    Args:
        database: Where jobs and events are.
        max_streams: Most that may be open at once.
    """

    def __init__(self, database: Database, max_streams: int) -> None:
        self._database = database
        self._max_streams = max_streams
        self._num_open = 0
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let every stream end soon; the clients come back, to whoever serves then."""
        self._stopping.set()

    def has_ended(self, job_id: str, after: int) -> bool:
        """Return whether nothing more will happen to a job than a client saw.

        Args:
            job_id: The job.
            after: The last event that the client saw.

        Returns:
            True if it has ended and no later event is there.

        Raises:
            NotFoundError: There is no such job.
        """
        job, events = self._look(job_id, after)
        return JobStatus(job.status).ended and not events

    def open(self, job_id: str, after: int) -> AsyncIterator[bytes]:
        """Return the bytes of a stream: events by their ids, the job in an event `job` whenever it changed.

        It closes once the job has ended and all of that was sent.

        Args:
            job_id: A job that there is.
            after: The last event that the client saw.

        Returns:
            What to send.

        Raises:
            TooManyStreamsError: As many as there may be are open.
        """
        if self._num_open >= self._max_streams:
            raise TooManyStreamsError(self._max_streams)
        return self._counted(job_id, after)

    async def _counted(self, job_id: str, after: int) -> AsyncIterator[bytes]:
        self._num_open += 1  # the event loop's thread only
        try:
            async for chunk in self._chunks(job_id, after):
                yield chunk
        finally:
            self._num_open -= 1

    async def _chunks(self, job_id: str, after: int) -> AsyncIterator[bytes]:
        yield format_sse_event(retry=_RETRY_MILLISECONDS)
        shown, opened = "", time.monotonic()
        last_sent = opened
        while not self._stopping.is_set() and time.monotonic() - opened < _MAX_SECONDS:
            job, events = await run_in_threadpool(self._look, job_id, after)
            chunks = [format_sse_event(data_str=JobEvent.of(row).model_dump_json(), id=str(row.id)) for row in events]
            after = events[-1].id if events else after
            is_whole = len(events) < _PAGE
            state = Job.of(job).model_dump_json()
            if is_whole and state != shown:
                chunks.append(format_sse_event(event="job", data_str=state))
                shown = state
            if chunks:
                yield b"".join(chunks)
                last_sent = time.monotonic()
            elif time.monotonic() - last_sent > _KEEP_ALIVE_SECONDS:
                yield KEEPALIVE_COMMENT
                last_sent = time.monotonic()
            if is_whole and JobStatus(job.status).ended:
                return
            if is_whole:
                await anyio.sleep(_LOOK_SECONDS)

    def _look(self, job_id: str, after: int) -> tuple[JobRow, Sequence[JobEventRow]]:
        """The job first: once it has ended, all its events are there to be read."""
        with self._database.read() as session:
            jobs = Jobs(session)
            return jobs.get(job_id), jobs.events(job_id, after, _PAGE)
