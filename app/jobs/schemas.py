"""What a job looks like on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, Field

from app.access.owner import Owner
from app.http.links import link_to
from app.http.paging import Listed
from contract.jobs import AttemptCause, DeliveryState, JobKind, JobStatus, Priority, PriorityName
from contract.names import shorten
from registry.tables import JobAttemptRow, JobRow, WebhookDeliveryRow

MAX_DETAIL = 2000
"""Most characters of why something failed."""


class JobBrief(BaseModel):
    """A job as other resources name it."""

    id: str = Field(description="Id of the job, such as `job_…`")
    status: JobStatus = Field(description="Where the job is in its life")

    @classmethod
    def of(cls, row: JobRow) -> JobBrief:
        """Return the brief of a row."""
        return cls(id=row.id, status=JobStatus(row.status))


class JobError(BaseModel):
    """Why a job failed."""

    code: str = Field(description="Stable and machine-readable")
    detail: str = Field(description="What went wrong, and what to do next")

    @classmethod
    def of(cls, row: JobRow) -> JobError | None:
        """Return a row's error, if it has one."""
        return cls(code=row.error_code, detail=shorten(row.error_detail or "", MAX_DETAIL)) if row.error_code else None


class JobLinks(BaseModel):
    """Where to go on from a job."""

    self: str = Field(description="The job")
    events: str = Field(description="Its events")
    cancel: str = Field(description="To `POST`: cancels it")
    retry: str = Field(description="To `POST`: queues it again, once it has failed or was cancelled")
    subject: str = Field(description="The data set or patch that the job makes")


class Job(BaseModel):
    """One queued unit of work."""

    id: str = Field(description="Id of the job, such as `job_…`")
    kind: JobKind = Field(description="What it does")
    subject_id: str = Field(description="Id of the data set or patch that it makes")
    parent_id: str | None = Field(description="The parent job, if this is a child job; cancel and retry the parent")
    part: str | None = Field(description="Id of the data set that a child job fine-tunes on")
    status: JobStatus = Field(description="Where the job is in its life")
    stage: str | None = Field(description="What it does now; null: it has not begun")
    progress: float = Field(ge=0, le=1, description="Share of the work that is done, 0 to 1")
    eta_seconds: float | None = Field(description="Estimated seconds to the end; null: not known")
    attempt: int = Field(description="Attempts that count: a stop of the worker and a setback do not")
    cancel_requested: bool = Field(description="Whether its worker was told to stop")
    priority: PriorityName = Field(description="Waiting jobs of a higher one are taken first")
    error: JobError | None = Field(description="Why it failed; null: it has not failed")
    owner: Owner
    created_at: datetime = Field(description="When it was queued for the first time")
    started_at: datetime | None = Field(description="When its first attempt began; null: it waits")
    progress_at: datetime | None = Field(description="When its trainer last reported something")
    paused_until: datetime | None = Field(description="After a setback, such as a full disk: when it is tried again")
    finished_at: datetime | None = Field(description="When it ended; null: it has not ended")
    links: JobLinks = Field(description="Where to go on")

    @classmethod
    def of(cls, row: JobRow) -> Job:
        """Return the resource of a row."""
        path = link_to(f"/v1/jobs/{row.id}")
        noun = "datasets" if row.kind == JobKind.INGEST else "patches"
        return cls(
            id=row.id,
            kind=JobKind(row.kind),
            subject_id=row.subject_id,
            parent_id=row.parent_id,
            part=row.part,
            status=JobStatus(row.status),
            stage=row.stage,
            progress=row.progress,
            eta_seconds=row.eta_seconds,
            attempt=row.attempt,
            cancel_requested=row.cancel_requested,
            priority=Priority(row.priority).label,
            error=JobError.of(row),
            owner=row.owner,
            created_at=row.created_at,
            started_at=row.started_at,
            progress_at=row.progress_at,
            paused_until=row.paused_until,
            finished_at=row.finished_at,
            links=JobLinks(
                self=path,
                events=f"{path}/events",
                cancel=f"{path}/cancel",
                retry=f"{path}/retry",
                subject=link_to(f"/v1/{noun}/{row.subject_id}"),
            ),
        )


class JobAttempt(BaseModel):
    """One worker's try at a job."""

    attempt: int = Field(description="1, 2, 3 …, of all that there were, also those that do not count")
    started_at: datetime = Field(description="When a worker took the job")
    ended_at: datetime | None = Field(description="Of a lease that lapsed: when that was noticed")
    stage: str | None = Field(description="The stage in which it ended")
    cause: AttemptCause | None = Field(description="Why it ended, for programs")
    detail: str | None = Field(description="Why it ended, for people")

    @classmethod
    def of(cls, row: JobAttemptRow) -> JobAttempt:
        """Return the resource of a row."""
        return cls(
            attempt=row.token,
            started_at=row.started_at,
            ended_at=row.ended_at,
            stage=row.stage,
            cause=AttemptCause(row.cause) if row.cause else None,
            detail=None if row.detail is None else shorten(row.detail, MAX_DETAIL),
        )


class JobWebhook(BaseModel):
    """The message about a job's end."""

    id: str = Field(description="The header `webhook-id` of every try")
    state: DeliveryState = Field(description="Whether it was delivered")
    tries: int = Field(description="Number of times that it was sent")
    next_try_at: datetime | None = Field(description="When it is sent again; null: it is not")
    last_error: str | None = Field(description="Why the last try failed; null: none did")

    @classmethod
    def of(cls, row: WebhookDeliveryRow | None) -> JobWebhook | None:
        """Return the resource of a row, if there is one."""
        if row is None:
            return None
        return cls(
            id=row.id,
            state=DeliveryState(row.state),
            tries=row.num_tries,
            next_try_at=row.due_at,
            last_error=row.last_error,
        )


class JobDetail(Job):
    """A job with what was tried."""

    attempts: list[JobAttempt] = Field(description="Oldest first; of very many, the last 100")
    log_tail: str | None = Field(description="Last lines that the trainer of the last failed attempt printed")

    webhook: JobWebhook | None = Field(description="The message about its end, if one was asked for and it has ended")

    @classmethod
    def with_attempts(
        cls, row: JobRow, attempts: Sequence[JobAttemptRow], delivery: WebhookDeliveryRow | None
    ) -> JobDetail:
        """Return the resource of a job's row, of its attempts, oldest first, and of the message about its end."""
        tails = [each.log_tail for each in attempts if each.log_tail]
        return cls(
            **vars(Job.of(row)),
            attempts=[JobAttempt.of(each) for each in attempts],
            log_tail=tails[-1] if tails else None,
            webhook=JobWebhook.of(delivery),
        )


class JobList(Listed):
    """Jobs, newest first."""

    items: list[Job] = Field(description="The jobs")
