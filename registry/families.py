"""Jobs that do the parts of another one: the parent waits, held by nobody, and is queued again once all have ended.

    parent   queued ──first part starts──▶ running ──last part ends──▶ queued ──lease──▶ running ──▶ succeeded | …
    parts    queued ──lease──▶ running ──▶ succeeded | failed | cancelled

A parent occupies no worker while it waits, so one worker is enough. A part that fails stops the others and the parent
fails with its cause; a cancel of the parent cancels the parts. Parts are cancelled and retried with their parent only.

Whoever starts or ends a part locks the parent's row first, and its own after it. So of two parts that end at the same
moment exactly one is the last, and nobody waits for somebody who waits for them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.orm import aliased

from contract.job_events import EventData, Level, PartEnded
from contract.jobs import MAX_ATTEMPTS, JobKind, JobStatus
from registry.errors import ConflictError
from registry.job_lists import JobLists
from registry.leases import has_lapsed
from registry.plain_text import MAX_MESSAGE, clean_data, clean_text
from registry.tables import JobEventRow, JobRow

_LEVELS = ("info", "warn", "error")
_OPEN = (JobStatus.QUEUED, JobStatus.RUNNING)
_PARTS_SHARE = 0.75
"""What the parts are taken for of the whole work, for the parent's progress while they are done."""


class Families(JobLists, ABC):
    """Parents and their parts within one transaction; `registry.jobs.Jobs` is the one there is."""

    @abstractmethod
    def _end(self, job: JobRow, status: JobStatus, code: str | None = None, detail: str | None = None) -> None:
        """End the job, whose row is locked."""

    def add_event(self, job_id: str, message: str, level: str = "info", data: dict[str, Any] | None = None) -> None:
        """Append an event to the job's history.

        Whoever calls this has written or locked the job's row in the same transaction, or has just made it: so events
        of one job become visible in the order of their ids, and a reader that goes on after the last one misses none.
        """
        level, message = (level if level in _LEVELS else "info"), clean_text(message, MAX_MESSAGE)
        event = JobEventRow(job_id=job_id, at=self._now(), level=level, message=message, data=clean_data(data))
        self._session.add(event)

    def tell(self, job_id: str, data: EventData, level: Level | None = None) -> None:
        """Append an event of a known kind; its level is the kind's unless another one is given."""
        self.add_event(job_id, data.MESSAGE, level or data.LEVEL, data.to_json())

    def parts(self, job_id: str) -> Sequence[JobRow]:
        """Return the jobs that do the parts of this one, in the order in which they were made."""
        query = select(JobRow).where(JobRow.parent_id == job_id).order_by(JobRow.created_at, JobRow.id)
        return self._session.scalars(query).all()

    def to_ring(self, job_id: str) -> list[str]:
        """Return the jobs that workers must be told of so that this one is done: its waiting parts, else itself."""
        return [part.id for part in self.parts(job_id) if part.status == JobStatus.QUEUED] or [job_id]

    def mark_rung(self, job_id: str) -> None:
        """Note that a doorbell message for the job is about to be sent."""
        self._session.execute(update(JobRow).where(JobRow.id == job_id).values(rung_at=self._now()))

    def share_progress(self, job_id: str) -> None:
        """Let the parent tell how far its parts are; in a transaction of its own, that has locked nothing else."""
        parent_id = self._parent_id(job_id)
        if parent_id is None:
            return
        done = self._session.scalar(select(func.avg(JobRow.progress)).where(JobRow.parent_id == parent_id)) or 0.0
        waits = and_(JobRow.id == parent_id, JobRow.status == JobStatus.RUNNING, JobRow.lease_expires_at.is_(None))
        self._session.execute(update(JobRow).where(waits).values(progress=_PARTS_SHARE * done))

    def has_free(self, kinds: Collection[JobKind] = tuple(JobKind)) -> bool:
        """Return whether a job of these kinds waits for somebody who does it."""
        waiting = select(JobRow.id).where(is_free(self._now()), JobRow.kind.in_([str(kind) for kind in kinds]))
        return self._session.scalar(waiting.limit(1)) is not None

    def retry(self, job_id: str) -> JobRow:
        """Return a patch's job that failed or was cancelled, queued again with all its attempts and its checkpoint.

        Raises:
            ConflictError: It has not ended, has succeeded, does a part of another job, or is of a data set.
        """
        job = self._locked(job_id)
        if job.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
            raise ConflictError(f"Job {job_id} is {job.status}.", "Only failed or cancelled jobs can be retried.")
        self._require_whole(job, "Retry")
        if job.kind != JobKind.PATCH:
            raise ConflictError(f"Job {job_id} belongs to a data set.", "Upload the archive again to retry.")
        again = [part for part in self.parts(job_id) if part.status in (JobStatus.FAILED, JobStatus.CANCELLED)]
        for each in (job, *again):
            each.status, each.attempt, each.cancel_requested, each.progress = JobStatus.QUEUED, 0, False, 0.0
            each.error_code = each.error_detail = each.finished_at = each.stage = each.rung_at = None
            each.queued_at, each.paused_until, each.num_setbacks = self._now(), None, 0
            self.add_event(each.id, "retried")
        return job

    # -- inside -------------------------------------------------------------------------------------------------

    def _locked(self, job_id: str) -> JobRow:
        """Return the job as it is now; nobody else can write it before this transaction ends."""
        self._session.flush()  # or what is read again would be lost
        return self._get(JobRow, job_id, "job", locked=True)

    def _each_locked(self, *conditions: ColumnElement[bool]) -> Iterator[JobRow]:
        """Yield the jobs that satisfy the conditions, each locked after the one that it does a part of.

        A locked row is being written by somebody who is alive after all; the next round looks at it again.
        """
        for job_id, parent_id in self._session.execute(select(JobRow.id, JobRow.parent_id).where(*conditions)).all():
            if parent_id is None or self._locked_if_free(parent_id) is not None:
                job = self._locked_if_free(job_id, *conditions)
                if job is not None:
                    yield job

    def _locked_if_free(self, job_id: str, *conditions: ColumnElement[bool]) -> JobRow | None:
        """Return the job, locked; None if somebody else writes it at this moment or a condition does not hold."""
        query = select(JobRow).where(JobRow.id == job_id, *conditions).with_for_update(skip_locked=True)
        return self._session.scalar(query, execution_options={"populate_existing": True})

    def _locked_parent(self, job_id: str) -> JobRow | None:
        parent_id = self._parent_id(job_id)
        return None if parent_id is None else self._locked(parent_id)

    def _parent_id(self, job_id: str) -> str | None:
        return self._session.scalar(select(JobRow.parent_id).where(JobRow.id == job_id))

    def _require_whole(self, job: JobRow, verb: str) -> None:
        if job.parent_id is not None:
            raise ConflictError(f"Job {job.id} is a child job of {job.parent_id}.", f"{verb} the parent job.")

    def _part_started(self, parent: JobRow) -> None:
        if parent.status == JobStatus.QUEUED:
            parent.status, parent.stage = JobStatus.RUNNING, str(JobKind.FINETUNE)
            parent.started_at = parent.started_at or self._now()
            self.add_event(parent.id, "parts started")

    def _part_ended(self, part: JobRow) -> None:
        """Go on with the parent, if the job does a part of one and was the last of its parts to end."""
        if part.parent_id is None:
            return
        parent, failed = self._locked(part.parent_id), part.status == JobStatus.FAILED
        ended = PartEnded(job_id=part.id, part=part.part, status=part.status)
        self.tell(parent.id, ended, "warn" if failed else "info")
        num_open = self._stop_parts(parent) if failed else len(self._open_parts(parent))
        if num_open == 0 and not JobStatus(parent.status).ended:
            self._join(parent)

    def _join(self, parent: JobRow) -> None:
        failed = [part for part in self.parts(parent.id) if part.status == JobStatus.FAILED]
        if parent.cancel_requested:
            self._end(parent, JobStatus.CANCELLED)
        elif failed:
            first = min(failed, key=lambda part: part.finished_at or self._now())
            detail = f"Child job {first.id} ({first.part}) failed: {first.error_detail}"
            self._end(parent, JobStatus.FAILED, first.error_code, detail)
        else:
            parent.status, parent.rung_at, parent.queued_at = JobStatus.QUEUED, None, self._now()
            self.add_event(parent.id, "all parts ended")

    def _stop_parts(self, parent: JobRow) -> int:
        """Cancel the parts that have not ended, and return how many of them somebody works on and has yet to stop."""
        open_parts = self._open_parts(parent)
        waiting = [part for part in open_parts if part.status == JobStatus.QUEUED]
        for part in open_parts:
            part.cancel_requested = True
            self.add_event(part.id, "cancel requested")
        for part in waiting:
            self._end(part, JobStatus.CANCELLED)
        return len(open_parts) - len(waiting)

    def _open_parts(self, parent: JobRow) -> Sequence[JobRow]:
        query = select(JobRow).where(JobRow.parent_id == parent.id, JobRow.status.in_(_OPEN)).order_by(JobRow.id)
        return self._session.scalars(query.with_for_update(), execution_options={"populate_existing": True}).all()


def has_open_parts() -> ColumnElement[bool]:
    """Return the condition that a part of the job has not ended."""
    part = aliased(JobRow)
    return exists().where(part.parent_id == JobRow.id, part.status.in_(_OPEN)).correlate(JobRow)


def is_queued(now: datetime) -> ColumnElement[bool]:
    """Return the condition that the job waits and may be taken at this moment."""
    return and_(JobRow.status == JobStatus.QUEUED, or_(JobRow.paused_until.is_(None), JobRow.paused_until <= now))


def is_free(now: datetime) -> ColumnElement[bool]:
    """Return the condition that a worker may lease the job at this moment."""
    may_be_tried = and_(JobRow.cancel_requested.is_(False), JobRow.attempt < MAX_ATTEMPTS, ~has_open_parts())
    return and_(or_(is_queued(now), has_lapsed(now)), may_be_tried)
