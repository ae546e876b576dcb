"""Asking for jobs, and asking them to stop."""

from __future__ import annotations

from collections.abc import Sequence

from app.jobs.quota import check_quota
from app.jobs.schemas import JobDetail, JobList, NamedJob
from app.jobs.unit_of_work import UnitsOfWork
from contract.jobs import JobKind, JobStatus
from registry.attempts import Attempts
from registry.database import Database
from registry.deliveries import Deliveries
from registry.filters import ANY, ListFilters
from registry.jobs import Jobs
from registry.tables import JobEventRow, JobRow


def list_jobs(
    database: Database,
    limit: int,
    cursor: str | None,
    statuses: Sequence[JobStatus],
    kind: JobKind | None,
    reference: str | None = None,
    filters: ListFilters = ANY,
) -> JobList:
    """Return a page of jobs, newest first."""
    with database.read() as session:
        jobs = Jobs(session)
        page = jobs.newest(limit, cursor, statuses=statuses, kind=kind, reference=reference, filters=filters)
        names = jobs.subject_names({row.subject_id for row in page})
        items = [NamedJob.named(row, names.get(row.subject_id)) for row in page]
        return JobList(items=items, next_cursor=page.next_cursor)


def get_job(database: Database, job_id: str) -> JobDetail:
    """Return the job with its attempts and the message about its end."""
    with database.read() as session:
        jobs = Jobs(session)
        job, attempts = jobs.get(job_id), Attempts(session).all(job_id)
        name = jobs.subject_names([job.subject_id]).get(job.subject_id)
        return JobDetail.with_attempts(job, name, attempts, Deliveries(session).newest_of(job_id))


def list_events(database: Database, job_id: str, after: int) -> Sequence[JobEventRow]:
    """Return the job's events with ids above `after`, oldest first."""
    with database.read() as session:
        jobs = Jobs(session)
        jobs.get(job_id)
        return jobs.events(job_id, after)


def retry_job(units: UnitsOfWork, max_unfinished: int, job_id: str) -> JobRow:
    """Return the job, queued and dispatched again."""
    with units.begin() as unit:
        check_quota(unit.session, unit.jobs.get(job_id).owner, max_unfinished)
        job = unit.jobs.retry(job_id)
        if job.kind == JobKind.EVALUATE:
            unit.evaluations.require_inputs(job.subject_id)
        else:
            unit.patches.require_datasets(job.subject_id)
        unit.dispatch(unit.jobs.to_dispatch(job_id))
    return job


def cancel_job(database: Database, job_id: str) -> JobRow:
    """Return the job, cancelled or marked for its worker to stop."""
    with database.write() as session:
        return Jobs(session).request_cancel(job_id)
