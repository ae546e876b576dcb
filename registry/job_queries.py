"""Reading jobs and their events."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import defer

from contract.jobs import JobKind, JobStatus
from registry.filters import ANY, NAMED, ListFilters
from registry.paging import Page, read_page
from registry.references import names
from registry.repository import Repository
from registry.tables import JobEventRow, JobRow

_NOT_SHOWN = frozenset({"checkpoint", "lease_owner", "lease_token", "lease_expires_at", "rung_at", "webhook_url"})


class JobQueries(Repository):
    """Jobs to be looked at, within one transaction."""

    def get(self, job_id: str) -> JobRow:
        """Return the job, or raise `NotFoundError`."""
        return self._get(JobRow, job_id, "job")

    def newest(
        self,
        limit: int = 100,
        cursor: str | None = None,
        *,
        statuses: Collection[JobStatus] = (),
        kind: JobKind | None = None,
        reference: str | None = None,
        filters: ListFilters = ANY,
    ) -> Page[JobRow]:
        """Return a page of jobs, newest first.

        Args:
            reference: Prefix of their ids or of the ids of their data sets and patches; None: any.
        """
        query = select(JobRow).options(defer(JobRow.checkpoint))
        if statuses:
            query = query.where(JobRow.status.in_([str(status) for status in statuses]))
        if kind is not None:
            query = query.where(JobRow.kind == kind)
        if reference is not None:
            query = query.where(names(reference, JobRow.id, JobRow.subject_id, "job_"))
        query = filters.apply_to_jobs(query)
        return read_page(self._session, query, (JobRow.created_at, JobRow.id), limit, cursor)

    def by_ids(self, job_ids: Sequence[str]) -> dict[str, JobRow]:
        """Return the jobs with these ids, by id, read at once."""
        query = select(JobRow).options(defer(JobRow.checkpoint)).where(JobRow.id.in_(job_ids))
        return {job.id: job for job in self._session.scalars(query)}

    def subject_names(self, subject_ids: Collection[str]) -> dict[str, str]:
        """Return the names of the data sets, patches and evaluations with these ids, by id."""
        queries = (select(table.id, table.name).where(table.id.in_(subject_ids)) for table in NAMED)
        return {row.id: row.name for query in queries for row in self._session.execute(query)}

    def count_unfinished(self, owner: str) -> int:
        """Return how many jobs of an owner wait or run; child jobs are not counted."""
        unfinished = and_(JobRow.status.in_((JobStatus.QUEUED, JobStatus.RUNNING)), JobRow.parent_id.is_(None))
        return self._session.scalar(select(func.count()).where(JobRow.owner == owner, unfinished)) or 0

    def watch(self, ids: Collection[str]) -> dict[str, tuple[tuple[object, ...], int]]:
        """Return a value for each of these jobs that changes whenever its displayed state does, and its last event.

        One query for all, which reads no checkpoint and no lease.

        Returns:
            By id: the displayed columns, and the id of the last event, 0 if there is none.
        """
        last = select(func.max(JobEventRow.id)).where(JobEventRow.job_id == JobRow.id).scalar_subquery()
        shown = [column for column in JobRow.__table__.c if column.name not in _NOT_SHOWN]
        rows = self._session.execute(select(JobRow.id, last, *shown).where(JobRow.id.in_(ids)))
        return {row[0]: (tuple(row[2:]), row[1] or 0) for row in rows}

    def request_id(self, job_id: str) -> str | None:
        """Return the id of the request that queued a job, as the API's log has it; None if no request did."""
        return self._queued_data(job_id).get("request_id")

    def traceparent(self, job_id: str) -> str | None:
        """Return the W3C `traceparent` of the request that queued a job; None if it was not traced."""
        return self._queued_data(job_id).get("traceparent")

    def _queued_data(self, job_id: str) -> dict[str, Any]:
        queued = next(iter(self.events(job_id, limit=1)), None)
        return (queued.data or {}) if queued is not None else {}

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> Sequence[JobEventRow]:
        """Return the job's events with ids above `after`, oldest first."""
        query = select(JobEventRow).where(JobEventRow.job_id == job_id, JobEventRow.id > after)
        return self._session.scalars(query.order_by(JobEventRow.id).limit(limit)).all()
