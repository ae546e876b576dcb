"""Jobs and their events."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from paintbox_client.display import show_progress
from paintbox_client.errors import InputError
from paintbox_client.records import Record
from paintbox_client.resources.versions import AliasChange
from paintbox_client.waiting import wait_for_job


class JobError(Record):
    """Why a job failed."""

    code: str
    detail: str


class _Waits:
    """What jobs can do: wait until they have succeeded."""

    def wait(
        self: Any,
        progress: bool = False,
        timeout: float | None = None,
        on_update: Callable[[JobDetail], object] = lambda job: None,
    ) -> JobDetail:
        """Return the job once it has succeeded.

        Args:
            progress: Show on standard error how far it is.
            timeout: Seconds after which to give up; None: never.
            on_update: Called with the job after each poll.

        Raises:
            InputError: This object did not come from a `Client`.
            JobFailedError: The job failed or was cancelled.
            JobTimeoutError: It still runs after the timeout.
        """
        if self._source is None:
            raise InputError("This job did not come from a client.", "Call wait_for_job(id) of a client.")
        with show_progress(self["id"]) if progress else nullcontext(lambda job: None) as show:
            return wait_for_job(
                self._source, self["id"], JobDetail, lambda job: (show(job), on_update(job)), timeout=timeout
            )


class JobBrief(_Waits, Record):
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


class Job(_Waits, Record):
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
