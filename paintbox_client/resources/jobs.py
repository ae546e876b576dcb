"""Jobs and their events."""

from __future__ import annotations

from paintbox_client.records import Record
from paintbox_client.resources.versions import AliasChange
from paintbox_client.waiting import Waitable


class JobError(Record):
    """Why a job failed."""

    code: str
    detail: str


class JobBrief(Waitable):
    """A job as other resources name it."""

    id: str
    status: str


class JobLinks(Record):
    """Links of a job."""

    self: str
    events: str
    cancel: str
    retry: str
    subject: str


class Job(Waitable):
    """One queued unit of work."""

    id: str
    kind: str
    subject_id: str
    parent_id: str | None
    part: str | None
    status: str
    stage: str | None
    progress: float
    eta_seconds: float | None
    attempt: int
    cancel_requested: bool
    priority: str
    error: JobError | None
    owner: str | None
    created_at: str
    started_at: str | None
    progress_at: str | None
    paused_until: str | None
    finished_at: str | None
    links: JobLinks


class NamedJob(Job):
    """A job with the name of what it is about."""

    subject_name: str | None


class JobAttempt(Record):
    """One worker's try at a job."""

    attempt: int
    started_at: str
    ended_at: str | None
    stage: str | None
    cause: str | None
    detail: str | None


class JobWebhook(Record):
    """The message about a job's end."""

    id: str
    state: str
    tries: int
    next_try_at: str | None
    last_error: str | None


class JobDetail(NamedJob):
    """A job with its attempts."""

    attempts: list[JobAttempt]
    log_tail: str | None
    webhook: JobWebhook | None


class EventData(Record):
    """Data of an event. Which fields are set depends on the message; the others are None."""

    left_out_bytes: int | None
    alpha: float | None
    profile: str | None
    accuracies: dict[str, float]
    left_out: int | None
    kept: int | None
    cause: str | None
    code: str | None
    detail: str | None
    step: int | None
    loss: float | None
    learning_rate: float | None
    images_per_second: float | None
    validation_accuracy: float | None
    anchor_loss: float | None
    reason: str | None
    job_id: str | None
    part: str | None
    status: str | None
    request_id: str | None
    traceparent: str | None
    of: str | None
    attempt: int | None
    owner: str | None
    number: int | None
    iterations: int | None
    patching: float | None
    supported: float | None
    failure: str | None


class JobEvent(Record):
    """Something that happened to a job."""

    id: int
    at: str
    level: str
    message: str
    data: EventData | None


class EventJob(Record):
    """The job that an event of the installation is about."""

    id: str
    kind: str
    subject_id: str
    name: str | None
    owner: str | None
    parent_id: str | None


class EventMove(AliasChange):
    """The move of an alias that an event of the installation is about."""

    alias: str


class InstallationEvent(Record):
    """Something that happened, to a job or to an alias; `type` says which."""

    id: str
    at: str
    type: str
    message: str
    job: EventJob | None
    move: EventMove | None
