"""The jobs that clients follow, polled once for all their followers.

A thread polls the database every quarter of a second, with one query for all these jobs. The state and the new events
of a changed job are serialized once; all its followers send the same bytes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from fastapi.sse import format_sse_event

from app.jobs.events import describe_event
from app.jobs.schemas import Job
from app.runtime.changes import Changes
from contract.jobs import JobStatus
from registry.database import Database
from registry.jobs import Jobs
from registry.tables import JobEventRow

LOOK_SECONDS = 0.25
PAGE = 500
_KEPT_EVENTS = 500
_log = structlog.get_logger(__name__)

Written = tuple[int, bytes]
"""Id and serialized form of an event."""


@dataclass(frozen=True)
class View:
    """A job as one reader sees it.

    Attributes:
        number: Increases with every change.
        events: Those after the reader's last one; None: they are no longer buffered and have to be read.
        state: The job as it is sent, if all its events are there; else empty.
        has_ended: Whether nothing more will happen.
        floor: Events up to this one are not buffered.
    """

    number: int
    events: Sequence[Written] | None
    state: bytes
    has_ended: bool
    floor: int = 0


@dataclass
class Feed:
    """A job with at least one follower."""

    job_id: str
    num_readers: int = 0
    _shown: tuple[object, ...] | None = None
    _state: bytes = b""
    _has_ended: bool = False
    _floor: int | None = None  # events up to this one are not buffered; None: nothing has been read yet
    _read: int = 0  # … and up to this one have been read
    _last: int = 0  # … of as many as there are
    _events: deque[Written] = field(default_factory=lambda: deque(maxlen=_KEPT_EVENTS))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _changes: Changes = field(default_factory=Changes)

    def view(self, after: int) -> View:
        """Return the job for a reader who has all events up to `after`."""
        number = self._changes.number  # before what it counts
        with self._lock:
            if self._floor is None:
                return View(number, (), b"", has_ended=False)
            if after < self._floor:
                return View(number, None, b"", has_ended=False, floor=self._floor)
            events = [each for each in self._events if each[0] > after]
            is_whole = self._read >= self._last
            return View(number, events, self._state if is_whole else b"", self._has_ended and is_whole)

    async def changed(self, number: int, seconds: float) -> None:
        """Return once there is a newer view than that number, or after some seconds."""
        await self._changes.wait(number, seconds)

    def differs(self, shown: tuple[object, ...], last: int) -> bool:
        """Return whether a job is not as it was last written."""
        return shown != self._shown or last > self._read or self._floor is None

    @property
    def read_up_to(self) -> int | None:
        """The event up to which all have been read; None: nothing has been."""
        return None if self._floor is None else self._read

    def write(self, shown: tuple[object, ...], last: int, state: bytes, has_ended: bool, new: list[Written]) -> None:
        """Store what the database says; called by the polling thread."""
        with self._lock:
            self._shown, self._state, self._has_ended, self._last = shown, state, has_ended, last
            if self._floor is None:
                self._floor = self._read = last
            for each in new:
                if len(self._events) == _KEPT_EVENTS:
                    self._floor = self._events[0][0]
                self._events.append(each)
                self._read = each[0]
        self.wake()

    def end(self) -> None:
        """Tell the readers that the job no longer exists."""
        with self._lock:
            self._has_ended, self._floor, self._last = True, self._floor or 0, self._read
        self.wake()

    def wake(self) -> None:
        """Wake all readers."""
        self._changes.announce()


class JobFeeds:
    """The jobs with followers, and the thread that polls them while there are any."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._feeds: dict[str, Feed] = {}
        self._lock = threading.Lock()
        self._is_new = threading.Event()
        self._thread: threading.Thread | None = None
        self.num_looks = 0

    @contextmanager
    def follow(self, job_id: str) -> Iterator[Feed]:
        """Yield the feed of a job, which exists while it has followers."""
        with self._lock:
            feed = self._feeds.setdefault(job_id, Feed(job_id))
            feed.num_readers += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="paintbox-feeds", daemon=True)
                self._thread.start()
        self._is_new.set()
        try:
            yield feed
        finally:
            with self._lock:
                feed.num_readers -= 1
                if not feed.num_readers:
                    del self._feeds[job_id]

    def wake(self) -> None:
        """Wake all readers."""
        for feed in self._copy():
            feed.wake()

    def _copy(self) -> list[Feed]:
        with self._lock:
            return list(self._feeds.values())

    def _run(self) -> None:
        while True:
            self._is_new.wait(LOOK_SECONDS)
            self._is_new.clear()
            with self._lock:
                if not self._feeds:
                    self._thread = None
                    return
            try:
                self._look()
            except Exception as error:  # retried at the next poll
                _log.warning("cannot read followed jobs", error=type(error).__name__)

    def _look(self) -> None:
        """Read what has changed; state and events are from one snapshot."""
        feeds = {feed.job_id: feed for feed in self._copy()}
        self.num_looks += 1
        with self._database.read() as session:
            jobs = Jobs(session)
            found = jobs.watch(feeds)
            for feed in (feed for job_id, feed in feeds.items() if job_id not in found):
                feed.end()
            changed = {job_id: seen for job_id, seen in found.items() if feeds[job_id].differs(*seen)}
            rows = jobs.by_ids(list(changed)) if changed else {}
            for job_id, (shown, last) in changed.items():
                row, after = rows[job_id], feeds[job_id].read_up_to
                new = [] if after is None or last <= after else write_events(jobs.events(job_id, after, PAGE))
                state = format_sse_event(event="job", data_str=Job.of(row).model_dump_json())
                feeds[job_id].write(shown, last, state, JobStatus(row.status).ended, new)


def write_events(rows: Collection[JobEventRow]) -> list[Written]:
    """Return events as they are sent."""
    written = ((row.id, describe_event(row).model_dump_json(exclude_unset=True)) for row in rows)
    return [(identifier, format_sse_event(data_str=text, id=str(identifier))) for identifier, text in written]
