"""Statistics of jobs for metrics: counts, expired leases, ended jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, select

from contract.jobs import JobStatus
from registry.job_groups import has_open_children, is_queued
from registry.leases import has_lapsed
from registry.orm import UtcDateTime
from registry.repository import Repository
from registry.tables import JobRow, PatchRow


@dataclass(frozen=True)
class EndedJob:
    """A job that has ended.

    Attributes:
        run_seconds: Seconds from its first start to its end; None if it never started.
    """

    id: str
    kind: str
    status: str
    finished_at: datetime
    run_seconds: float | None


class JobStats(Repository):
    """Statistics of jobs within one transaction."""

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many jobs there are by kind and status; none where there are none."""
        query = select(JobRow.kind, JobRow.status, func.count()).group_by(JobRow.kind, JobRow.status)
        return {(kind, status): count for kind, status, count in self._session.execute(query)}

    def lapsed_leases(self) -> frozenset[tuple[str, int]]:
        """Return job and token of every lease that has expired and was not taken over yet."""
        query = select(JobRow.id, JobRow.lease_token).where(has_lapsed(self._now()))
        return frozenset((job_id, token) for job_id, token in self._session.execute(query))

    def longest_wait_seconds(self) -> float:
        """Return how long the job has waited that a worker could have taken first; 0 if none waits."""
        now, since = self._now(), func.coalesce(JobRow.queued_at, JobRow.created_at, type_=UtcDateTime())
        waiting = and_(is_queued(now), ~has_open_children())
        return _age(self._session.scalar(select(func.min(since, type_=UtcDateTime())).where(waiting)), now)

    def longest_silence_seconds(self) -> float:
        """Return the longest time for which the trainer of a running job has reported nothing; 0 if none runs."""
        held = and_(JobRow.status == JobStatus.RUNNING, JobRow.lease_expires_at.is_not(None))
        return _age(self._session.scalar(select(func.min(JobRow.progress_at)).where(held)), self._now())

    def num_held(self) -> int:
        """Return how many jobs workers hold."""
        now = self._now()
        held = and_(JobRow.status == JobStatus.RUNNING, JobRow.lease_expires_at >= now)
        return self._session.scalar(select(func.count()).where(held)) or 0

    def ended_since(self, moment: datetime) -> Sequence[EndedJob]:
        """Return the jobs that ended at this moment or later."""
        columns = (JobRow.id, JobRow.kind, JobRow.status, JobRow.finished_at, JobRow.started_at)
        query = select(*columns).where(JobRow.finished_at >= moment)
        return [_ended(*row) for row in self._session.execute(query)]

    def stage_seconds(self, job_id: str) -> dict[str, float]:
        """Return how long each stage of a job took, if its patch's report contains it."""
        report = self._session.scalar(select(PatchRow.report).where(PatchRow.job_id == job_id))
        return dict((report or {}).get("timings_seconds") or {})


def _ended(job_id: str, kind: str, status: str, finished: datetime | None, started: datetime | None) -> EndedJob:
    assert finished is not None
    return EndedJob(job_id, kind, status, finished, None if started is None else (finished - started).total_seconds())


def _age(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else max((now - moment).total_seconds(), 0.0)
