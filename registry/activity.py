"""Events of the installation in one order: jobs that were queued, started and ended, and moves of aliases.

Both are in append-only tables of their own. A position is a pair of ids, one of each table, so that a reader continues
after it in any process, without loss or repetition. PostgreSQL assigns ids before it commits: a row with a smaller id
may appear later. So where an id is missing, reading stops there until the rows behind it are a few seconds old.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import merge
from typing import NamedTuple, TypeVar

from sqlalchemy import func, select

from contract.job_events import Failed, GivenBack, Queued, Started
from contract.jobs import JobStatus
from registry.repository import Repository
from registry.tables import AliasHistoryRow, DatasetRow, EvaluationRow, JobEventRow, JobRow, PatchRow

MESSAGES = (
    *(Queued.MESSAGE, Started.MESSAGE, GivenBack.MESSAGE, Failed.MESSAGE),
    *(JobStatus.SUCCEEDED.value, JobStatus.CANCELLED.value, "retried", "cancel requested"),
)
"""Events of jobs that change what is queued, running or done; progress is not among them."""

_SCANNED = 500
_LOOKED_BACK = 100
_RowT = TypeVar("_RowT", JobEventRow, AliasHistoryRow)
_UNSETTLED = timedelta(seconds=5)
"""How long a transaction may take after it has written an event."""

_POSITION = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class Position(NamedTuple):
    """The last events that a reader knows: of jobs, and of aliases."""

    job: int = 0
    alias: int = 0

    def __str__(self) -> str:
        return f"{self.job}-{self.alias}"

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """Return the position that `str` wrote; None: it is none."""
        found = _POSITION.fullmatch(text)
        return cls(int(found[1]), int(found[2])) if found else None


@dataclass(frozen=True)
class JobEntry:
    """An event of a job.

    Attributes:
        event: The event.
        job: The job.
        name: Of the data set, patch or evaluation that the job is about; None: it was deleted.
    """

    event: JobEventRow
    job: JobRow
    name: str | None

    @property
    def at(self) -> datetime:
        """When it happened."""
        return self.event.at


Entry = JobEntry | AliasHistoryRow


class Activity(Repository):
    """What happened, within one transaction."""

    def tip(self) -> Position:
        """Return the position behind everything that there is."""
        return Position(self._tip(JobEventRow), self._tip(AliasHistoryRow))

    def after(self, position: Position, limit: int) -> tuple[list[tuple[Position, Entry]], Position]:
        """Return what follows a position, oldest first, each with its own position, and where to continue.

        The second position lies behind the last entry if only events follow that are not told, such as progress.
        """
        events = self._settled(JobEventRow, position.job)
        moves = self._settled(AliasHistoryRow, position.alias)
        told = self._with_jobs([each for each in events if each.message in MESSAGES])
        merged = _place(position, _merge(told, moves))
        if len(merged) > limit:
            return merged[:limit], merged[limit - 1][0]
        last = Position(
            events[-1].id if events else position.job,
            moves[-1].id if moves else position.alias,
        )
        return merged, last

    def newest(self, limit: int) -> tuple[list[tuple[Position, Entry]], Position]:
        """Return the last entries, oldest first, as `after` does."""
        of_jobs = select(JobEventRow).where(JobEventRow.message.in_(MESSAGES)).order_by(JobEventRow.id.desc())
        events = self._session.scalars(of_jobs.limit(limit)).all()[::-1]
        moves = self._session.scalars(select(AliasHistoryRow).order_by(AliasHistoryRow.id.desc()).limit(limit)).all()
        entries = _merge(self._with_jobs(events), moves[::-1])
        return _place(Position(), entries)[-limit:], self.tip()

    def unfinished(self, limit: int) -> Sequence[JobRow]:
        """Return the newest jobs that are queued or running."""
        waiting = JobRow.status.in_([JobStatus.QUEUED, JobStatus.RUNNING])
        query = select(JobRow).where(waiting).order_by(JobRow.created_at.desc(), JobRow.id.desc()).limit(limit)
        return self._session.scalars(query).all()

    def _tip(self, table: type[_RowT]) -> int:
        newest = self._session.scalar(select(func.max(table.id))) or 0
        if self._is_in_order:
            return newest
        before = max(0, newest - _LOOKED_BACK)
        rows = self._settled(table, before)
        return rows[-1].id if rows else before

    @property
    def _is_in_order(self) -> bool:
        """Whether ids are in the order of commits: SQLite has one writer at a time."""
        return self._session.get_bind().dialect.name == "sqlite"

    def _settled(self, table: type[_RowT], after: int) -> list[_RowT]:
        """Return the next rows after an id, up to one before which another row may still appear."""
        query = select(table).where(table.id > after).order_by(table.id).limit(_SCANNED)
        rows = list(self._session.scalars(query))
        if self._is_in_order:
            return rows
        previous, recent = after, self._now() - _UNSETTLED
        for index, row in enumerate(rows):
            if row.id != previous + 1 and row.at > recent:
                return rows[:index]
            previous = row.id
        return rows

    def _with_jobs(self, events: Sequence[JobEventRow]) -> list[JobEntry]:
        wanted = {each.job_id for each in events}
        jobs = {row.id: row for row in self._session.scalars(select(JobRow).where(JobRow.id.in_(wanted)))}
        names = self._names({row.subject_id for row in jobs.values()})
        return [
            JobEntry(each, jobs[each.job_id], names.get(jobs[each.job_id].subject_id))
            for each in events
            if each.job_id in jobs
        ]

    def _names(self, subjects: set[str]) -> dict[str, str]:
        return {
            identifier: name
            for table in (DatasetRow, PatchRow, EvaluationRow)
            for identifier, name in self._session.execute(select(table.id, table.name).where(table.id.in_(subjects)))
        }


def _merge(of_jobs: Sequence[JobEntry], moves: Sequence[AliasHistoryRow]) -> list[Entry]:
    """Return both by time; each stays in its own order, which is that of its ids."""
    both: tuple[Sequence[Entry], ...] = (of_jobs, moves)
    return list(merge(*both, key=lambda each: each.at))


def _place(start: Position, entries: Sequence[Entry]) -> list[tuple[Position, Entry]]:
    """Return each entry with the position behind it."""
    placed = []
    for entry in entries:
        job = entry.event.id if isinstance(entry, JobEntry) else start.job
        start = Position(job, start.alias if isinstance(entry, JobEntry) else entry.id)
        placed.append((start, entry))
    return placed
