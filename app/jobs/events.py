"""API schemas of job events: one for each kind, distinguished by the message."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, Literal, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError

from contract import job_events as data
from contract.job_events import Level
from contract.recorded import Recorded
from registry.tables import JobEventRow

Data = TypeVar("Data", bound=Recorded)


class _Event(BaseModel, Generic[Data]):
    id: int = Field(
        description="Increases with every event of the installation; pass it as `after` to continue from here"
    )
    at: datetime = Field(description="When it happened")
    level: Level = Field(description="Severity")
    message: str = Field(description="Kind of event, a constant text")
    data: Data | None = Field(description="Data of the event; null: none")


class QueuedEvent(_Event[data.Queued]):
    """The job waits for a worker."""

    message: Literal["queued"] = Field(description="Kind of event")


class StartedEvent(_Event[data.Started]):
    """A worker has begun an attempt."""

    message: Literal["started"] = Field(description="Kind of event")


class FineTuningEvent(_Event[data.FineTuning]):
    """A step of fine-tuning is done."""

    message: Literal["fine-tuning"] = Field(description="Kind of event")


class AlphaEvaluatedEvent(_Event[data.AlphaEvaluated]):
    """The validation splits were evaluated at one alpha."""

    message: Literal["alpha evaluated"] = Field(description="Kind of event")


class TrialJudgedEvent(_Event[data.TrialJudged]):
    """A trial of fine-tuning settings has been judged."""

    message: Literal["trial judged"] = Field(description="Kind of event")


class AnchorsLeftOutEvent(_Event[data.AnchorsLeftOut]):
    """The anchor pool had images that a score is computed on."""

    message: Literal["anchor images that are evaluation images were left out"] = Field(description="Kind of event")


class CheckpointUnusableEvent(_Event[data.CheckpointUnusable]):
    """Fine-tuning starts over, because its checkpoint is missing or damaged."""

    message: Literal["checkpoint unusable; fine-tuning starts over"] = Field(description="Kind of event")


class ResumedEvent(_Event[data.Resumed]):
    """Fine-tuning resumes from a checkpoint."""

    message: Literal["resumed"] = Field(description="Kind of event")


class GivenBackEvent(_Event[data.GivenBack]):
    """An attempt ended, and the job waits for another one."""

    message: Literal["given back"] = Field(description="Kind of event")


class ChildJobEndedEvent(_Event[data.ChildJobEnded]):
    """A child job of this job has ended."""

    message: Literal["part ended"] = Field(description="Kind of event")


class FailedEvent(_Event[data.Failed]):
    """The job has failed."""

    message: Literal["failed"] = Field(description="Kind of event")


class OtherEvent(_Event[data.OtherData]):
    """An event without data of its own, such as `succeeded`, or one of another release."""


JobEvent = (
    QueuedEvent
    | StartedEvent
    | FineTuningEvent
    | AlphaEvaluatedEvent
    | TrialJudgedEvent
    | AnchorsLeftOutEvent
    | CheckpointUnusableEvent
    | ResumedEvent
    | GivenBackEvent
    | ChildJobEndedEvent
    | FailedEvent
    | OtherEvent
)
"""An event of a job."""

_SHAPES: dict[str, type[JobEvent]] = {
    get_args(shape.model_fields["message"].annotation)[0]: shape
    for shape in get_args(JobEvent)
    if shape is not OtherEvent
}


def describe_event(row: JobEventRow) -> JobEvent:
    """Return the resource of a row; `OtherEvent` if its data does not fit its message."""
    fields = {"id": row.id, "at": row.at, "level": row.level, "message": row.message, "data": row.data}
    try:
        return _SHAPES.get(row.message, OtherEvent).model_validate(fields)
    except ValidationError:
        return OtherEvent.model_validate(fields)


class JobEventList(BaseModel):
    """A job's events, oldest first."""

    items: list[JobEvent] = Field(description="The events, at most 1,000")
    next_after: int = Field(description="Pass this as `after` to get later events")
