"""Jobs: the state machine, leases, progress and events. Only this file and `job_groups` change a job's status.

    queued ──lease──▶ running ──▶ succeeded | failed | cancelled
       ▲                 │                      │          │
       ├─────release─────┘                      │          │
       └─────retry──────────────────────────────┴──────────┘

A worker that stops or dies releases its job. A retry is explicit, for patches only. A job may wait for its child jobs
(`registry.job_groups`).

A worker holds a job by a **lease**: an owner, an expiry that heartbeats push on, and a fencing token that grows with
each lease. Every write of a worker names its token and is refused once a newer lease exists or the job has ended, so
two workers that both believe they own a job still produce one result (Kleppmann, "How to do distributed locking").
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import CursorResult, and_, or_, select, update

from contract.datasets import DatasetState
from contract.job_events import Failed, GivenBack, Queued, Started
from contract.jobs import MAX_ATTEMPTS, AttemptCause, JobKind, JobStatus, Priority
from registry.attempts import Attempts
from registry.deliveries import Deliveries
from registry.errors import ConflictError, LeaseLostError
from registry.job_groups import JobGroups, has_open_children, is_free, is_queued
from registry.leases import LEASE_SECONDS, Lease, has_lapsed
from registry.plain_text import clean_text
from registry.tables import DatasetRow, JobRow


class Jobs(JobGroups):
    """Jobs within one transaction: what changes them, beside what reads them."""

    # -- asking -------------------------------------------------------------------------------------------------

    def create(
        self,
        kind: JobKind,
        subject_id: str,
        owner: str | None = None,
        *,
        priority: Priority = Priority.NORMAL,
        webhook_url: str | None = None,
        parent_id: str | None = None,
        part: str | None = None,
    ) -> JobRow:
        """Add a queued job and return it.

        Args:
            subject_id: The data set or patch that it is about.
            part: The task that a child job fine-tunes.
        """
        job = JobRow(
            id=f"job_{secrets.token_hex(12)}",
            kind=kind,
            subject_id=subject_id,
            parent_id=parent_id,
            part=part,
            status=JobStatus.QUEUED,
            progress=0.0,
            attempt=0,
            lease_token=0,
            cancel_requested=False,
            priority=priority,
            webhook_url=webhook_url,
            owner=owner,
            num_setbacks=0,
            created_at=self._now(),
        )
        self._session.add(job)
        self._session.flush()
        context = structlog.contextvars.get_contextvars()
        if context.get("request_id"):
            self.tell(job.id, Queued(request_id=context["request_id"], traceparent=context.get("traceparent")))
        else:
            self.add_event(job.id, Queued.MESSAGE)
        return job

    def request_cancel(self, job_id: str) -> JobRow:
        """Cancel the job and return it: at once if no worker holds it, otherwise its worker is asked to stop.

        Raises:
            ConflictError: It has already succeeded or failed, or is a child job.
        """
        job = self._locked(job_id)
        self._require_no_parent(job, "Cancel")
        status = JobStatus(job.status)
        if status is JobStatus.CANCELLED or job.cancel_requested:
            return job
        if status.ended:
            raise ConflictError(f"Job {job_id} has already {status}.", "A finished job cannot be cancelled.")
        self.add_event(job_id, "cancel requested")
        job.cancel_requested = True
        num_running = self._stop_children(job)  # the last of them to end ends the job
        if num_running == 0 and job.lease_expires_at is None and not JobStatus(job.status).ended:
            self._end(job, JobStatus.CANCELLED)  # no worker has to stop first
        return job

    # -- dispatch -----------------------------------------------------------------------------------------------

    def reap(self, redispatch_after_seconds: float) -> list[str]:
        """End jobs that cannot be finished and return the ids of the jobs to dispatch, oldest first.

        Those are jobs that are queued, or whose lease expired, and that were not dispatched in the last
        `redispatch_after_seconds`. A job whose lease expired is cancelled if a cancel was requested, and fails once its
        attempts are used up.
        """
        now = self._now()
        lapsed = has_lapsed(now)
        for job in self._each_locked(lapsed):
            if job.cancel_requested or job.attempt >= MAX_ATTEMPTS:
                self._attempts.end(job, AttemptCause.LEASE_LAPSED)
                self._give_up(job)
        self._session.flush()
        before = now - timedelta(seconds=redispatch_after_seconds)
        is_due = or_(JobRow.dispatched_at.is_(None), JobRow.dispatched_at < before)
        waiting = and_(or_(is_queued(now), lapsed), ~has_open_children())
        return list(self._session.scalars(select(JobRow.id).where(waiting, is_due).order_by(JobRow.created_at)))

    # -- working ------------------------------------------------------------------------------------------------

    def lease_best(
        self, owner: str, seconds: float = LEASE_SECONDS, kinds: Collection[JobKind] = tuple(JobKind)
    ) -> Lease | None:
        """Return a lease on the waiting job of the highest priority, the oldest of those; None if none waits."""
        query = select(JobRow.id).where(is_free(self._now()), JobRow.kind.in_([str(kind) for kind in kinds]))
        query = query.order_by(JobRow.priority.desc(), JobRow.created_at, JobRow.id)
        while job_id := self._session.scalar(query.limit(1)):  # not locked: the parent of a child is locked before it
            with self._session.begin_nested() as taking:
                if lease := self.lease(job_id, owner, seconds):
                    return lease
                taking.rollback()  # another worker was faster; this unlocks the parent before another one is locked
        return None

    def lease(self, job_id: str, owner: str, seconds: float = LEASE_SECONDS) -> Lease | None:
        """Return a lease on the job, or None if it has ended, waits for its child jobs, or another worker holds it."""
        now, parent = self._now(), self._locked_parent(job_id)
        statement = (
            update(JobRow)
            .where(JobRow.id == job_id, is_free(self._now()))
            .values(
                status=JobStatus.RUNNING,
                attempt=JobRow.attempt + 1,
                lease_owner=owner,
                lease_token=JobRow.lease_token + 1,
                lease_expires_at=now + timedelta(seconds=seconds),
                lease_renewed_at=now,
                progress_at=now,
                paused_until=None,
            )
        )
        if self._rows(statement) == 0:
            return None
        self._session.expire_all()
        job = self.get(job_id)
        job.started_at = job.started_at or now
        self._attempts.begin(job, owner)
        self.tell(job_id, Started(attempt=job.attempt, owner=owner))
        if parent is not None:
            self._child_started(parent)
        return Lease(job_id, job.lease_token, JobKind(job.kind))

    def heartbeat(self, lease: Lease, seconds: float = LEASE_SECONDS, *, heard: bool = False) -> bool:
        """Extend the lease and return whether a cancel of the job was requested.

        Args:
            heard: Whether the trainer has reported anything since the last heartbeat.
        """
        now = self._now()
        heard_at = {"progress_at": now} if heard else {}
        self._write(lease, lease_expires_at=now + timedelta(seconds=seconds), lease_renewed_at=now, **heard_at)
        return bool(self._session.scalar(select(JobRow.cancel_requested).where(JobRow.id == lease.job_id)))

    def report(self, lease: Lease, *, stage: str, progress: float, eta_seconds: float | None) -> None:
        """Record the progress of the job.

        Args:
            progress: Share of the whole job that is complete, in [0, 1].
        """
        progress = min(max(progress, 0.0), 1.0) if math.isfinite(progress) else 0.0
        eta_seconds = eta_seconds if eta_seconds is not None and math.isfinite(eta_seconds) else None
        self._write(lease, stage=clean_text(stage, 32), progress=progress, eta_seconds=eta_seconds)

    def save_checkpoint(self, lease: Lease, checkpoint: dict[str, Any]) -> None:
        """Record where a later attempt can go on from, as plain data; it replaces the last one."""
        self._write(lease, checkpoint=checkpoint, num_setbacks=0)

    def note(self, lease: Lease, message: str, level: str = "info", data: dict[str, Any] | None = None) -> None:
        """Append an event for the lease's holder: constant text, `info`, `warn` or `error`, and plain data."""
        self._write(lease, lease_token=lease.token)
        self.add_event(lease.job_id, message, level, data)

    def release(
        self,
        lease: Lease,
        reason: str,
        *,
        counts_as_attempt: bool,
        cause: AttemptCause | None = None,
        log_tail: str | None = None,
        pause_seconds: float | None = None,
    ) -> None:
        """Return the job to the queue, for another worker or a later start.

        It ends instead if a cancel was requested or its attempts are used up.

        Args:
            counts_as_attempt: False if the job is not the cause, for example when the worker is stopped.
            cause: The reason, for programs; default: the worker stops, or, if it counts, the trainer ended.
            pause_seconds: How long it must not be leased, after a setback.
        """
        job = self._held(lease)
        job.attempt -= not counts_as_attempt
        usual = AttemptCause.TRAINER_EXITED if counts_as_attempt else AttemptCause.WORKER_STOPPED
        self._attempts.end(job, cause or usual, reason, log_tail)
        if job.cancel_requested or job.attempt >= MAX_ATTEMPTS:
            return self._give_up(job)
        self._write(lease, status=JobStatus.QUEUED, lease_owner=None, lease_expires_at=None, dispatched_at=None)
        job.queued_at = now = self._now()
        if pause_seconds is not None:
            job.paused_until, job.num_setbacks = now + timedelta(seconds=pause_seconds), job.num_setbacks + 1
        self.tell(lease.job_id, GivenBack(reason=clean_text(reason)))

    def succeed(self, lease: Lease, checkpoint: dict[str, Any] | None = None) -> dict[str, Any]:
        """End the job as succeeded; call this in the transaction that writes its result, before writing it.

        Args:
            checkpoint: What its parent goes on from, if it is a child job.

        Returns:
            The checkpoint recorded so far, empty if there was none.
        """
        job = self._held(lease)
        recorded, job.checkpoint = job.checkpoint or {}, job.checkpoint if checkpoint is None else checkpoint
        self._attempts.end(job, AttemptCause.SUCCEEDED)
        self._end(job, JobStatus.SUCCEEDED)
        return recorded

    def fail(self, lease: Lease, code: str, detail: str, log_tail: str | None = None) -> None:
        """End the job with a stable code, what happened and what to do next, and the end of the trainer's log."""
        job = self._held(lease)
        cause = AttemptCause.OUT_OF_MEMORY if code == AttemptCause.OUT_OF_MEMORY else AttemptCause.FAILED
        self._attempts.end(job, cause, f"{code}: {detail}", log_tail)
        self._end(job, JobStatus.FAILED, code, detail)

    def cancel(self, lease: Lease) -> None:
        """End the job as cancelled."""
        job = self._held(lease)
        self._attempts.end(job, AttemptCause.CANCELLED)
        self._end(job, JobStatus.CANCELLED)

    # -- inside -------------------------------------------------------------------------------------------------

    def _rows(self, statement: Any) -> int:
        self._session.flush()
        result = self._session.execute(statement, execution_options={"synchronize_session": False})
        assert isinstance(result, CursorResult)
        return result.rowcount

    def _write(self, lease: Lease, **values: Any) -> None:
        held = and_(JobRow.id == lease.job_id, JobRow.lease_token == lease.token, JobRow.status == JobStatus.RUNNING)
        if self._rows(update(JobRow).where(held).values(**values)) == 0:
            raise LeaseLostError(lease.job_id, lease.token)
        self._session.expire_all()

    @property
    def _attempts(self) -> Attempts:
        return Attempts(self._session, self._now)

    def _held(self, lease: Lease) -> JobRow:
        """Return the lease's job, locked after its parent."""
        self._locked_parent(lease.job_id)
        self._write(lease, lease_token=lease.token)
        return self.get(lease.job_id)

    def _give_up(self, job: JobRow) -> None:
        """End a job that no worker would lease again, so that no worker could end it."""
        if job.cancel_requested:
            return self._end(job, JobStatus.CANCELLED)
        causes = self._attempts.describe_blamed(job.id)
        advice = "Fix the cause, or request less at a time, then retry the job."
        detail = f"All {job.attempt} attempts ended early. {causes}. {advice}"
        self._end(job, JobStatus.FAILED, "attempts_exhausted", detail)

    def _end(self, job: JobRow, status: JobStatus, code: str | None = None, detail: str | None = None) -> None:
        job.status, detail = status, None if detail is None else clean_text(detail)
        job.error_code, job.error_detail = code, detail
        job.finished_at = self._now()
        job.lease_owner = job.lease_expires_at = job.eta_seconds = None
        if status is JobStatus.SUCCEEDED:
            job.progress = 1.0
        elif job.kind == JobKind.INGEST:
            self._session.execute(
                update(DatasetRow).where(DatasetRow.job_id == job.id).values(state=DatasetState.FAILED)
            )
        Deliveries(self._session, self._now).add(job)
        if status is JobStatus.FAILED:
            self.tell(job.id, Failed(code=code, detail=detail))
        else:
            self.add_event(job.id, str(status))
        self._child_ended(job)
