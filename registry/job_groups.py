"""Child jobs: the parent waits, held by no worker, and is queued again once all its children have ended.

    parent     queued ──first child starts──▶ running ──last child ends──▶ queued ──lease──▶ running ──▶ succeeded | …
    children   queued ──lease──▶ running ──▶ succeeded | failed | cancelled

A waiting parent occupies no worker, so one worker is enough. A child that fails stops the others, and the parent fails
with its cause; a cancel of the parent cancels the children. Children are cancelled and retried with their parent only.

A transaction that starts or ends a child locks the parent's row first and the child's row after it. So of two children
that end at the same moment exactly one is the last, and no two transactions wait for each other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.orm import aliased

from contract.job_events import ChildJobEnded, EventData, Level
from contract.jobs import MAX_ATTEMPTS, JobKind, JobStatus
from registry.errors import ConflictError
from registry.job_queries import JobQueries
from registry.leases import has_lapsed
from registry.plain_text import MAX_MESSAGE, clean_data, clean_text
from registry.tables import JobEventRow, JobRow

_LEVELS = ("info", "warn", "error")
_OPEN = (JobStatus.QUEUED, JobStatus.RUNNING)
_CHILDREN_SHARE = 0.75
"""Share of the whole work that the children count for in the parent's progress."""


class JobGroups(JobQueries, ABC):
    """Parents and their child jobs within one transaction; the base of `registry.jobs.Jobs`."""

    @abstractmethod
    def _end(self, job: JobRow, status: JobStatus, code: str | None = None, detail: str | None = None) -> None:
        """End the job, whose row is locked."""

    def add_event(self, job_id: str, message: str, level: str = "info", data: dict[str, Any] | None = None) -> None:
        """Append an event to the job's history.

        The caller has written, locked or created the job's row in the same transaction. So events of one job become
        visible in the order of their ids, and a reader that continues after the last one misses none.
        """
        level, message = (level if level in _LEVELS else "info"), clean_text(message, MAX_MESSAGE)
        event = JobEventRow(job_id=job_id, at=self._now(), level=level, message=message, data=clean_data(data))
        self._session.add(event)

    def tell(self, job_id: str, data: EventData, level: Level | None = None) -> None:
        """Append an event of a known kind; its level is the kind's unless another one is given."""
        self.add_event(job_id, data.MESSAGE, level or data.LEVEL, data.to_json())

    def children(self, job_id: str) -> Sequence[JobRow]:
        """Return the child jobs in the order of their creation."""
        query = select(JobRow).where(JobRow.parent_id == job_id).order_by(JobRow.created_at, JobRow.id)
        return self._session.scalars(query).all()

    def to_dispatch(self, job_id: str) -> list[str]:
        """Return the ids of the jobs to dispatch so that this one is done: its queued children, else itself."""
        return [child.id for child in self.children(job_id) if child.status == JobStatus.QUEUED] or [job_id]

    def mark_dispatched(self, job_id: str) -> None:
        """Record that the job is about to be dispatched."""
        self._session.execute(update(JobRow).where(JobRow.id == job_id).values(dispatched_at=self._now()))

    def share_progress(self, job_id: str) -> None:
        """Update the parent's progress from its children's; call it in a transaction that has locked nothing else."""
        parent_id = self._parent_id(job_id)
        if parent_id is None:
            return
        done = self._session.scalar(select(func.avg(JobRow.progress)).where(JobRow.parent_id == parent_id)) or 0.0
        waits = and_(JobRow.id == parent_id, JobRow.status == JobStatus.RUNNING, JobRow.lease_expires_at.is_(None))
        self._session.execute(update(JobRow).where(waits).values(progress=_CHILDREN_SHARE * done))

    def has_free(self, kinds: Collection[JobKind] = tuple(JobKind)) -> bool:
        """Return whether a job of these kinds waits for a worker."""
        waiting = select(JobRow.id).where(is_free(self._now()), JobRow.kind.in_([str(kind) for kind in kinds]))
        return self._session.scalar(waiting.limit(1)) is not None

    def retry(self, job_id: str) -> JobRow:
        """Queue a failed or cancelled job again, with all attempts and its checkpoint, and return it.

        Raises:
            ConflictError: It has not ended, has succeeded, is a child job, or belongs to a data set.
        """
        job = self._locked(job_id)
        if job.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
            raise ConflictError(f"Job {job_id} is {job.status}.", "Only failed or cancelled jobs can be retried.")
        self._require_no_parent(job, "Retry")
        if job.kind not in (JobKind.PATCH, JobKind.EVALUATE):
            raise ConflictError(f"Job {job_id} belongs to a data set.", "Upload the archive again to retry.")
        again = [child for child in self.children(job_id) if child.status in (JobStatus.FAILED, JobStatus.CANCELLED)]
        for each in (job, *again):
            each.status, each.attempt, each.cancel_requested, each.progress = JobStatus.QUEUED, 0, False, 0.0
            each.error_code = each.error_detail = each.finished_at = each.stage = each.dispatched_at = None
            each.queued_at, each.paused_until, each.num_setbacks = self._now(), None, 0
            self.add_event(each.id, "retried")
        return job

    # -- inside -------------------------------------------------------------------------------------------------

    def _locked(self, job_id: str) -> JobRow:
        """Return the current row of the job, locked until this transaction ends."""
        self._session.flush()  # or what is read again would be lost
        return self._get(JobRow, job_id, "job", locked=True)

    def _each_locked(self, *conditions: ColumnElement[bool]) -> Iterator[JobRow]:
        """Yield the jobs that satisfy the conditions, each locked after its parent.

        Rows that another transaction has locked are skipped: their worker is alive. The next round checks them again.
        """
        for job_id, parent_id in self._session.execute(select(JobRow.id, JobRow.parent_id).where(*conditions)).all():
            if parent_id is None or self._locked_if_free(parent_id) is not None:
                job = self._locked_if_free(job_id, *conditions)
                if job is not None:
                    yield job

    def _locked_if_free(self, job_id: str, *conditions: ColumnElement[bool]) -> JobRow | None:
        """Return the job, locked; None if another transaction has locked it or a condition does not hold."""
        query = select(JobRow).where(JobRow.id == job_id, *conditions).with_for_update(skip_locked=True)
        return self._session.scalar(query, execution_options={"populate_existing": True})

    def _locked_parent(self, job_id: str) -> JobRow | None:
        parent_id = self._parent_id(job_id)
        return None if parent_id is None else self._locked(parent_id)

    def _parent_id(self, job_id: str) -> str | None:
        return self._session.scalar(select(JobRow.parent_id).where(JobRow.id == job_id))

    def _require_no_parent(self, job: JobRow, verb: str) -> None:
        if job.parent_id is not None:
            raise ConflictError(f"Job {job.id} is a child job of {job.parent_id}.", f"{verb} the parent job.")

    def _child_started(self, parent: JobRow) -> None:
        if parent.status == JobStatus.QUEUED:
            parent.status, parent.stage = JobStatus.RUNNING, str(JobKind.FINETUNE)
            parent.started_at = parent.started_at or self._now()
            self.add_event(parent.id, "parts started")

    def _child_ended(self, child: JobRow) -> None:
        """Continue the parent of a child job that was the last to end."""
        if child.parent_id is None:
            return
        parent, failed = self._locked(child.parent_id), child.status == JobStatus.FAILED
        ended = ChildJobEnded(job_id=child.id, part=child.part, status=child.status)
        self.tell(parent.id, ended, "warn" if failed else "info")
        num_open = self._stop_children(parent) if failed else len(self._open_children(parent))
        if num_open == 0 and not JobStatus(parent.status).ended:
            self._join(parent)

    def _join(self, parent: JobRow) -> None:
        failed = [child for child in self.children(parent.id) if child.status == JobStatus.FAILED]
        if parent.cancel_requested:
            self._end(parent, JobStatus.CANCELLED)
        elif failed:
            first = min(failed, key=lambda child: child.finished_at or self._now())
            detail = f"Child job {first.id} ({first.part}) failed: {first.error_detail}"
            self._end(parent, JobStatus.FAILED, first.error_code, detail)
        else:
            parent.status, parent.dispatched_at, parent.queued_at = JobStatus.QUEUED, None, self._now()
            self.add_event(parent.id, "all parts ended")

    def _stop_children(self, parent: JobRow) -> int:
        """Cancel the children that have not ended; return how many of them still have to be stopped by their worker."""
        open_children = self._open_children(parent)
        waiting = [child for child in open_children if child.status == JobStatus.QUEUED]
        for child in open_children:
            child.cancel_requested = True
            self.add_event(child.id, "cancel requested")
        for child in waiting:
            self._end(child, JobStatus.CANCELLED)
        return len(open_children) - len(waiting)

    def _open_children(self, parent: JobRow) -> Sequence[JobRow]:
        query = select(JobRow).where(JobRow.parent_id == parent.id, JobRow.status.in_(_OPEN)).order_by(JobRow.id)
        return self._session.scalars(query.with_for_update(), execution_options={"populate_existing": True}).all()


def has_open_children() -> ColumnElement[bool]:
    """Return the condition that a child of the job has not ended."""
    child = aliased(JobRow)
    return exists().where(child.parent_id == JobRow.id, child.status.in_(_OPEN)).correlate(JobRow)


def is_queued(now: datetime) -> ColumnElement[bool]:
    """Return the condition that the job waits and may be leased now."""
    return and_(JobRow.status == JobStatus.QUEUED, or_(JobRow.paused_until.is_(None), JobRow.paused_until <= now))


def is_free(now: datetime) -> ColumnElement[bool]:
    """Return the condition that a worker may lease the job now."""
    may_be_tried = and_(JobRow.cancel_requested.is_(False), JobRow.attempt < MAX_ATTEMPTS, ~has_open_children())
    return and_(or_(is_queued(now), has_lapsed(now)), may_be_tried)
