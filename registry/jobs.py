"""Jobs: the state machine, leases, progress and events. This file alone changes a job's status.

    queued ──lease──▶ running ──▶ succeeded | failed | cancelled
       ▲                 │                      │          │
       ├─────release─────┘                      │          │
       └─────retry──────────────────────────────┴──────────┘

A worker that stops or dies releases its job. A retry is asked for, for patches only.

A worker holds a job by a **lease**: an owner, an expiry that heartbeats push on, and a fencing token that grows with
each lease. Every write of a worker names its token and is refused once a newer lease exists or the job has ended, so
two workers that both believe they own a job still produce one result (Kleppmann, "How to do distributed locking").
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import CursorResult, and_, or_, select, update

from registry.attempts import Attempts
from registry.contract import MAX_ATTEMPTS, AttemptCause, DatasetState, JobKind, JobStatus
from registry.deliveries import Deliveries
from registry.errors import ConflictError, LeaseLostError, NotFoundError
from registry.job_lists import JobLists
from registry.tables import DatasetRow, JobEventRow, JobRow

LEASE_SECONDS = 30.0


@dataclass(frozen=True)
class Lease:
    """Proof that a worker holds a job.

    Attributes:
        job_id: The job.
        token: Fencing token; larger than that of any earlier lease on this job.
    """

    job_id: str
    token: int


class Jobs(JobLists):
    """Jobs within one transaction: what changes them, beside what reads them."""

    # -- asking -------------------------------------------------------------------------------------------------

    def create(
        self, kind: JobKind, subject_id: str, owner: str | None = None, *, webhook_url: str | None = None
    ) -> JobRow:
        """Add a queued job and return it.

        Args:
            kind: What it does.
            subject_id: The data set or patch that it is about.
            owner: Who asks, as their key names them.
            webhook_url: Who is told when it has ended.

        Returns:
            The row, attached to the session.
        """
        job = JobRow(
            id=f"job_{secrets.token_hex(12)}",
            kind=kind,
            subject_id=subject_id,
            status=JobStatus.QUEUED,
            progress=0.0,
            attempt=0,
            lease_token=0,
            cancel_requested=False,
            webhook_url=webhook_url,
            owner=owner,
            created_at=self._now(),
        )
        self._session.add(job)
        self._session.flush()
        self.add_event(job.id, "queued")
        return job

    def add_event(self, job_id: str, message: str, level: str = "info", data: dict[str, Any] | None = None) -> None:
        """Append an event to the job's history.

        Whoever calls this has written or locked the job's row in the same transaction, or has just made it: so events
        of one job become visible in the order of their ids, and a reader that goes on after the last one misses none.
        """
        self._session.add(JobEventRow(job_id=job_id, at=self._now(), level=level, message=message, data=data))

    def request_cancel(self, job_id: str) -> JobRow:
        """Return the job, cancelled at once if nobody works on it, else marked for its worker to stop.

        Args:
            job_id: The job.

        Returns:
            The row as it is after the request.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: It has already succeeded or failed.
        """
        job = self._locked(job_id)
        status = JobStatus(job.status)
        if status is JobStatus.CANCELLED or job.cancel_requested:
            return job
        if status.ended:
            raise ConflictError(f"Job {job_id} has already {status}.", "A finished job cannot be cancelled.")
        self.add_event(job_id, "cancel requested")
        job.cancel_requested = True
        if status is JobStatus.QUEUED:
            self._end(job, JobStatus.CANCELLED)
        return job

    def retry(self, job_id: str) -> JobRow:
        """Return a patch's job that failed or was cancelled, queued again with all its attempts and its checkpoint.

        Args:
            job_id: The job; nobody has been told of it yet.

        Returns:
            The row as it is now.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: It has not ended, has succeeded, or is of a data set, whose archive may be gone.
        """
        job = self._locked(job_id)
        if job.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
            raise ConflictError(f"Job {job_id} is {job.status}.", "Only what failed or was cancelled can be retried.")
        if job.kind == JobKind.INGEST:
            raise ConflictError(f"Job {job_id} is of a data set.", "Upload the archive again: that tries it again.")
        job.status, job.attempt, job.cancel_requested, job.progress = JobStatus.QUEUED, 0, False, 0.0
        job.error_code = job.error_detail = job.finished_at = job.stage = job.rung_at = None
        self.add_event(job_id, "retried")
        return job

    # -- ringing ------------------------------------------------------------------------------------------------

    def mark_rung(self, job_id: str) -> None:
        """Note that a doorbell message for the job is about to be sent."""
        self._session.execute(update(JobRow).where(JobRow.id == job_id).values(rung_at=self._now()))

    def reap(self, quiet_seconds: float) -> list[str]:
        """End what nobody can finish and return the ids of the jobs that someone must be told about.

        Those are jobs that are queued, or whose lease ran out, and for which nobody rang for `quiet_seconds`. A job
        whose lease ran out is cancelled if that was asked for, and failed once it used up its attempts.
        """
        now = self._now()
        lapsed = and_(JobRow.status == JobStatus.RUNNING, JobRow.lease_expires_at < now)
        # A locked row is being written by somebody who is alive after all; the next round looks at it again.
        query = select(JobRow).where(lapsed).with_for_update(skip_locked=True)
        for job in self._session.scalars(query, execution_options={"populate_existing": True}):
            if job.cancel_requested or job.attempt >= MAX_ATTEMPTS:
                self._attempts.end(job, AttemptCause.LEASE_LAPSED)
                self._give_up(job)
        self._session.flush()
        quiet = or_(JobRow.rung_at.is_(None), JobRow.rung_at < now - timedelta(seconds=quiet_seconds))
        waiting = or_(JobRow.status == JobStatus.QUEUED, lapsed)
        return list(self._session.scalars(select(JobRow.id).where(waiting, quiet).order_by(JobRow.created_at)))

    # -- working ------------------------------------------------------------------------------------------------

    def lease(self, job_id: str, owner: str, seconds: float = LEASE_SECONDS) -> Lease | None:
        """Return a lease on the job, or None if it has ended or somebody else holds it."""
        now = self._now()
        free = or_(
            JobRow.status == JobStatus.QUEUED,
            and_(JobRow.status == JobStatus.RUNNING, JobRow.lease_expires_at < now),
        )
        statement = (
            update(JobRow)
            .where(JobRow.id == job_id, free, JobRow.cancel_requested.is_(False), JobRow.attempt < MAX_ATTEMPTS)
            .values(
                status=JobStatus.RUNNING,
                attempt=JobRow.attempt + 1,
                lease_owner=owner,
                lease_token=JobRow.lease_token + 1,
                lease_expires_at=now + timedelta(seconds=seconds),
            )
        )
        if self._rows(statement) == 0:
            return None
        self._session.expire_all()
        job = self.get(job_id)
        job.started_at = job.started_at or now
        self._attempts.begin(job, owner)
        self.add_event(job_id, "started", data={"attempt": job.attempt, "owner": owner})
        return Lease(job_id, job.lease_token)

    def heartbeat(self, lease: Lease, seconds: float = LEASE_SECONDS) -> bool:
        """Push the lease's expiry on and return whether somebody asked to cancel the job.

        Args:
            lease: Proof that the caller holds the job.
            seconds: How long the lease holds from now on.

        Returns:
            True if the holder should stop and call `cancel`.

        Raises:
            LeaseLostError: The lease is not held any more.
        """
        self._write(lease, lease_expires_at=self._now() + timedelta(seconds=seconds))
        return bool(self._session.scalar(select(JobRow.cancel_requested).where(JobRow.id == lease.job_id)))

    def report(self, lease: Lease, *, stage: str, progress: float, eta_seconds: float | None) -> None:
        """Record how far the work is.

        Args:
            lease: Proof that the caller holds the job.
            stage: The stage that the work is in.
            progress: Share of the whole job that is done, in [0, 1].
            eta_seconds: Seconds until the job ends, if known.

        Raises:
            LeaseLostError: The lease is not held any more.
        """
        self._write(lease, stage=stage, progress=progress, eta_seconds=eta_seconds)

    def save_checkpoint(self, lease: Lease, checkpoint: dict[str, Any]) -> None:
        """Record where a later attempt can go on from.

        Args:
            lease: Proof that the caller holds the job.
            checkpoint: Plain data; replaces the last one.

        Raises:
            LeaseLostError: The lease is not held any more.
        """
        self._write(lease, checkpoint=checkpoint)

    def note(self, lease: Lease, message: str, level: str = "info", data: dict[str, Any] | None = None) -> None:
        """Append an event on behalf of the lease's holder.

        Args:
            lease: Proof that the caller holds the job.
            message: Constant text.
            level: `info`, `warn` or `error`.
            data: Plain data that goes with the text.

        Raises:
            LeaseLostError: The lease is not held any more.
        """
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
    ) -> None:
        """Give the job back to the queue, for another worker or a later start.

        It ends instead if somebody asked to cancel it, or once its attempts are used up.

        Args:
            lease: Proof that the caller holds the job.
            reason: Why, for people.
            counts_as_attempt: False when the job is not to blame, such as when the worker was told to stop.
            cause: Why, for programs; left out: the worker stops, or, if it counts, the trainer ended.
            log_tail: The end of what the trainer printed.

        Raises:
            LeaseLostError: The lease is not held any more.
        """
        attempts = JobRow.attempt if counts_as_attempt else JobRow.attempt - 1
        self._write(lease, attempt=attempts)
        job = self.get(lease.job_id)
        usual = AttemptCause.TRAINER_EXITED if counts_as_attempt else AttemptCause.WORKER_STOPPED
        self._attempts.end(job, cause or usual, reason, log_tail)
        if job.cancel_requested or job.attempt >= MAX_ATTEMPTS:
            return self._give_up(job)
        self._write(lease, status=JobStatus.QUEUED, lease_owner=None, lease_expires_at=None, rung_at=None)
        self.add_event(lease.job_id, "given back", "warn", {"reason": reason})

    def succeed(self, lease: Lease) -> None:
        """End the job well; call it in the transaction that writes its result.

        Args:
            lease: Proof that the caller holds the job.

        Raises:
            LeaseLostError: The lease is not held any more, so the result must not be written either.
        """
        self._end_held(lease, JobStatus.SUCCEEDED)

    def fail(self, lease: Lease, code: str, detail: str, log_tail: str | None = None) -> None:
        """End the job with a cause.

        Args:
            lease: Proof that the caller holds the job.
            code: Stable, machine-readable cause.
            detail: What happened and what to do next.
            log_tail: The end of what the trainer printed.

        Raises:
            LeaseLostError: The lease is not held any more.
        """
        self._write(lease, lease_token=lease.token)
        job = self.get(lease.job_id)
        cause = AttemptCause.OUT_OF_MEMORY if code == AttemptCause.OUT_OF_MEMORY else AttemptCause.FAILED
        self._attempts.end(job, cause, f"{code}: {detail}", log_tail)
        self._end(job, JobStatus.FAILED, code, detail)

    def cancel(self, lease: Lease) -> None:
        """End the job because somebody asked for it.

        Args:
            lease: Proof that the caller holds the job.

        Raises:
            LeaseLostError: The lease is not held any more.
        """
        self._end_held(lease, JobStatus.CANCELLED)

    # -- inside -------------------------------------------------------------------------------------------------

    def _locked(self, job_id: str) -> JobRow:
        """Return the job as it is now; nobody else can write it before this transaction ends."""
        job = self._session.get(JobRow, job_id, with_for_update=True, populate_existing=True)
        if job is None:
            raise NotFoundError("job", job_id)
        return job

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

    def _end_held(self, lease: Lease, status: JobStatus) -> None:
        self._write(lease, lease_token=lease.token)
        job = self.get(lease.job_id)
        self._attempts.end(job, AttemptCause(status))
        self._end(job, status)

    def _give_up(self, job: JobRow) -> None:
        """End a job that nobody would lease again, so that nobody else could end it."""
        if job.cancel_requested:
            return self._end(job, JobStatus.CANCELLED)
        causes = self._attempts.describe_blamed(job.id)
        advice = "Repair the cause, or ask for less at a time; `retry` tries it again."
        self._end(
            job, JobStatus.FAILED, "attempts_exhausted", f"All {job.attempt} attempts ended early. {causes}. {advice}"
        )

    def _end(self, job: JobRow, status: JobStatus, code: str | None = None, detail: str | None = None) -> None:
        job.status = status
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
        level = "error" if status is JobStatus.FAILED else "info"
        self.add_event(job.id, str(status), level, {"code": code, "detail": detail} if code else None)
