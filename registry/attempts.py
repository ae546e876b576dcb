"""Attempts at jobs: which there were, why each ended, and the end of what its trainer printed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from contract.jobs import MAX_ATTEMPTS, AttemptCause
from registry.plain_text import clean_tail, clean_text
from registry.repository import Repository
from registry.tables import JobAttemptRow, JobRow

_BLAMED = (
    AttemptCause.TRAINER_EXITED,
    AttemptCause.TRAINER_KILLED,
    AttemptCause.TRAINER_STALLED,
    AttemptCause.LEASE_LAPSED,
)
"""Ends that use up one of a job's attempts and leave it to be tried again."""

_MOST_LISTED = 100
_MOST_QUOTED = 500  # characters of each attempt's cause, in the cause of the job's failure


class Attempts(Repository):
    """Attempts within one transaction, which has written or locked the job's row."""

    def all(self, job_id: str) -> Sequence[JobAttemptRow]:
        """Return the job's attempts, oldest first; of very many, the newest ones."""
        query = select(JobAttemptRow).where(JobAttemptRow.job_id == job_id)
        return self._session.scalars(query.order_by(JobAttemptRow.token.desc()).limit(_MOST_LISTED)).all()[::-1]

    def begin(self, job: JobRow, worker: str) -> None:
        """Record that a worker starts a job that it has just leased.

        An attempt that is still open has lost its lease: its worker died, or could not reach the database.
        """
        self.end(job, AttemptCause.LEASE_LAPSED)
        self._session.add(
            JobAttemptRow(
                job_id=job.id, token=job.lease_token, attempt=job.attempt, worker=worker, started_at=self._now()
            )
        )
        self._session.flush()

    def end(self, job: JobRow, cause: AttemptCause, detail: str | None = None, log_tail: str | None = None) -> None:
        """Record why the open attempt ended; does nothing if none is open.

        Args:
            detail: The reason, for users; default: the meaning of the cause.
            log_tail: The end of the trainer's output.
        """
        still_open = (JobAttemptRow.job_id == job.id, JobAttemptRow.ended_at.is_(None))
        for row in self._session.scalars(select(JobAttemptRow).where(*still_open)):
            row.ended_at, row.cause, row.stage = self._now(), cause, job.stage
            row.detail = clean_text(detail or _describe(row, cause))
            row.log_tail = clean_tail(log_tail or "") or None

    def describe_blamed(self, job_id: str) -> str:
        """Return why the last attempts of a job ended that has used all of them, for users."""
        query = (
            select(JobAttemptRow)
            .where(JobAttemptRow.job_id == job_id, JobAttemptRow.cause.in_(_BLAMED))
            .order_by(JobAttemptRow.token.desc())
            .limit(MAX_ATTEMPTS)
        )
        rows = reversed(self._session.scalars(query).all())
        return "; ".join(f"attempt {row.token}: {clean_text(row.detail or '', _MOST_QUOTED)}" for row in rows)


def _describe(row: JobAttemptRow, cause: AttemptCause) -> str:
    if cause is not AttemptCause.LEASE_LAPSED:
        return str(cause)
    where = f"in stage {row.stage}" if row.stage else "before its first stage"
    return f"worker {row.worker} sent no heartbeat, {where}: it died, or could not reach the database"
