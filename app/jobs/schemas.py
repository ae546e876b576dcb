"""API schemas of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from app.access.owner import Owner
from app.http.links import link_to
from app.http.paging import Listed
from app.http.resources import Resource
from contract.jobs import AttemptCause, DeliveryState, JobKind, JobStatus, Priority, PriorityName
from contract.names import shorten
from registry.tables import JobAttemptRow, JobRow, WebhookDeliveryRow

MAX_DETAIL = 2000
"""Maximum length of an error."""


_NOUNS = {
    JobKind.INGEST: "datasets",
    JobKind.PATCH: "patches",
    JobKind.FINETUNE: "patches",
    JobKind.EVALUATE: "evaluations",
}


class JobBrief(Resource):
    """A job as other resources name it."""

    id: str = Field(description="Id of the job, such as `job_…`")
    status: JobStatus = Field(description="Status of the job")


class JobError(BaseModel):
    """Why a job failed."""

    code: str = Field(description="Stable, machine-readable error code")
    detail: str = Field(description="What went wrong, and what to do next")

    @classmethod
    def of(cls, row: JobRow) -> JobError | None:
        """Return a row's error, if it has one."""
        return cls(code=row.error_code, detail=shorten(row.error_detail or "", MAX_DETAIL)) if row.error_code else None


class JobLinks(BaseModel):
    """Links of a job."""

    self: str = Field(description="The job")
    events: str = Field(description="Its events")
    cancel: str = Field(description="`POST` to cancel the job")
    retry: str = Field(description="`POST` to retry the job after it has failed or was cancelled")
    subject: str = Field(description="The data set or patch of the job")


class Job(Resource):
    """One queued unit of work."""

    id: str = Field(description="Id of the job, such as `job_…`")
    kind: JobKind = Field(description="Kind of job")
    subject_id: str = Field(description="Id of the data set or patch of the job")
    parent_id: str | None = Field(description="The parent job, if this is a child job; cancel and retry the parent")
    part: str | None = Field(description="Id of the data set that a child job fine-tunes on")
    status: JobStatus = Field(description="Status of the job")
    stage: str | None = Field(description="Current stage; null: not started")
    progress: float = Field(ge=0, le=1, description="Completed share of the work, 0 to 1")
    eta_seconds: float | None = Field(description="Estimated seconds to the end; null: unknown")
    attempt: int = Field(description="Number of counted attempts; stopped workers and setbacks do not count")
    cancel_requested: bool = Field(description="Whether a cancel was requested")
    priority: PriorityName = Field(description="Jobs of a higher priority start first")
    error: JobError | None = Field(description="Error of a failed job; null: not failed")
    owner: Owner
    created_at: datetime = Field(description="When it was queued for the first time")
    started_at: datetime | None = Field(description="When its first attempt started; null: not started")
    progress_at: datetime | None = Field(description="When its trainer last reported progress")
    paused_until: datetime | None = Field(description="After a setback, such as a full disk: when it is retried")
    finished_at: datetime | None = Field(description="When it ended; null: not ended")
    links: JobLinks = Field(description="Related resources")

    @classmethod
    def of(cls, row: JobRow) -> Self:
        """Return the resource of a row."""
        return cls.from_row(row, **cls._computed(row))

    @staticmethod
    def _computed(row: JobRow) -> dict[str, Any]:
        path = link_to(f"/v1/jobs/{row.id}")
        links = JobLinks(
            self=path,
            events=f"{path}/events",
            cancel=f"{path}/cancel",
            retry=f"{path}/retry",
            subject=link_to(f"/v1/{_NOUNS[JobKind(row.kind)]}/{row.subject_id}"),
        )
        return {"priority": Priority(row.priority).label, "error": JobError.of(row), "links": links}


class NamedJob(Job):
    """A job with the name of what it is about."""

    subject_name: str | None = Field(
        description="Name of its data set, patch or evaluation; null: that has been deleted"
    )

    @classmethod
    def named(cls, row: JobRow, name: str | None) -> Self:
        """Return the resource of a row, whose subject has this name."""
        return cls.from_row(row, subject_name=name, **cls._computed(row))


class JobAttempt(Resource):
    """One worker's try at a job."""

    attempt: int = Field(description="Number of the attempt, including uncounted ones, from 1")
    started_at: datetime = Field(description="When a worker leased the job")
    ended_at: datetime | None = Field(description="When it ended; for an expired lease, when that was detected")
    stage: str | None = Field(description="The stage in which it ended")
    cause: AttemptCause | None = Field(description="Machine-readable reason of its end")
    detail: str | None = Field(description="Reason of its end")

    @classmethod
    def of(cls, row: JobAttemptRow) -> Self:
        """Return the resource of a row."""
        detail = None if row.detail is None else shorten(row.detail, MAX_DETAIL)
        return cls.from_row(row, attempt=row.token, detail=detail)


class JobWebhook(Resource):
    """The message about a job's end."""

    id: str = Field(description="The header `webhook-id` of every try")
    state: DeliveryState = Field(description="State of the delivery")
    tries: int = Field(description="Number of tries")
    next_try_at: datetime | None = Field(description="When it is sent again; null: never")
    last_error: str | None = Field(description="Error of the last try; null: none")

    @classmethod
    def of(cls, row: WebhookDeliveryRow) -> Self:
        """Return the resource of a row."""
        return cls.from_row(row, tries=row.num_tries, next_try_at=row.due_at)


class JobDetail(NamedJob):
    """A job with its attempts."""

    attempts: list[JobAttempt] = Field(description="Attempts, oldest first; at most the last 100")
    log_tail: str | None = Field(description="Last lines of the log of the last failed attempt")

    webhook: JobWebhook | None = Field(description="Webhook message of a job that has ended; null: none")

    @classmethod
    def with_attempts(
        cls, row: JobRow, name: str | None, attempts: Sequence[JobAttemptRow], delivery: WebhookDeliveryRow | None
    ) -> Self:
        """Return the resource of a job's row, of its attempts, oldest first, and of the message about its end."""
        tails = [each.log_tail for each in attempts if each.log_tail]
        return cls.from_row(
            row,
            **cls._computed(row),
            subject_name=name,
            attempts=[JobAttempt.of(each) for each in attempts],
            log_tail=tails[-1] if tails else None,
            webhook=None if delivery is None else JobWebhook.of(delivery),
        )


class JobList(Listed):
    """Jobs, newest first."""

    items: list[NamedJob] = Field(description="The jobs")
