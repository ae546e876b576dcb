"""The installation as it happens, as server-sent events.

One thread polls the database while there is a stream; it looks for new events and for jobs whose displayed state has
changed. Each stream then reads what follows its own position.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import structlog
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool

from app.events.schemas import InstallationEvent
from app.http.dependencies import provided
from app.jobs.schemas import Job
from app.jobs.streaming import KEEP_ALIVE_SECONDS, RETRY_MILLISECONDS, EventStream, EventStreams
from app.runtime.changes import Changes
from registry.activity import Activity, Position
from registry.database import Database

LOOK_SECONDS = 0.5
PAGE = 200
MAX_JOBS = 100
"""Unfinished jobs whose state is sent, the newest ones."""

_BEHIND_SECONDS = 1.0
"""How soon a stream reads again that had to stop before the last event; see `registry.activity`."""

_log = structlog.get_logger(__name__)


class Watch:
    """Knows whether something has happened, while somebody wants to know."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._num_readers = 0
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._tip = Position()
        self._jobs: dict[str, bytes] = {}
        self.changes = Changes()

    @contextmanager
    def reader(self) -> Iterator[None]:
        """Poll while the context lasts."""
        with self._lock:
            self._num_readers += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="paintbox-events", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._num_readers -= 1

    @property
    def jobs(self) -> Mapping[str, bytes]:
        """The unfinished jobs by id, as they are sent."""
        return self._jobs

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._num_readers:
                    self._thread = None
                    return
            try:
                self._look()
            except Exception as error:  # retried at the next poll
                _log.warning("cannot read events", error=type(error).__name__)
            time.sleep(LOOK_SECONDS)

    def _look(self) -> None:
        with self._database.read() as session:
            activity = Activity(session)
            tip = activity.tip()
            jobs = {
                row.id: format_sse_event(event="job", data_str=Job.of(row).model_dump_json())
                for row in activity.unfinished(MAX_JOBS)
            }
        if (tip, jobs) != (self._tip, self._jobs):
            self._tip, self._jobs = tip, jobs
            self.changes.announce()


class InstallationStreams:
    """Opens streams of everything that happens.

    Args:
        database: Holds the events.
        streams: Counts all open streams, those of single jobs too.
    """

    def __init__(self, database: Database, streams: EventStreams) -> None:
        self._database = database
        self._streams = streams
        self._watch = Watch(database)

    def stop(self) -> None:
        """Wake the streams, so that they end soon; `EventStreams.stop` was called before."""
        self._watch.changes.announce()

    def open(self, after: Position | None, owner: str | None) -> EventStream:
        """Return a stream of the events after a position (None: from now on); errors as for `EventStreams.admit`."""
        return self._streams.admit(self._chunks(after), owner)

    async def _chunks(self, after: Position | None) -> AsyncIterator[bytes]:
        yield format_sse_event(retry=RETRY_MILLISECONDS)
        opened = last_sent = time.monotonic()
        position = after if after is not None else await run_in_threadpool(self._tip)
        yield format_sse_event(event="position", data_str=f'"{position}"', id=str(position))
        shown: Mapping[str, bytes] = {}
        with self._watch.reader():
            while self._streams.continues(opened):
                number, jobs = self._watch.changes.number, self._watch.jobs
                events, position = await run_in_threadpool(self._page, position)
                events += [chunk for job_id, chunk in jobs.items() if shown.get(job_id) != chunk]
                shown = jobs
                if events:
                    yield b"".join(events)
                    last_sent = time.monotonic()
                    continue
                await self._watch.changes.wait(number, _BEHIND_SECONDS)
                if time.monotonic() - last_sent >= KEEP_ALIVE_SECONDS:
                    yield KEEPALIVE_COMMENT
                    last_sent = time.monotonic()

    def _tip(self) -> Position:
        with self._database.read() as session:
            return Activity(session).tip()

    def _page(self, position: Position) -> tuple[list[bytes], Position]:
        with self._database.read() as session:
            entries, last = Activity(session).after(position, PAGE)
            told = [InstallationEvent.of(*each) for each in entries]
        return [format_sse_event(data_str=each.model_dump_json(exclude_unset=True), id=each.id) for each in told], last


InstallationStreamsDep = Annotated[InstallationStreams, provided(InstallationStreams)]
