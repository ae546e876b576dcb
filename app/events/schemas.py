"""API schemas of the installation's events."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, Field

from app.versions.schemas import AliasChange
from contract.jobs import JobKind
from registry.activity import Entry, JobEntry, Position


class EventJob(BaseModel):
    """The job that an event is about."""

    id: str = Field(description="Id of the job")
    kind: JobKind = Field(description="Kind of job")
    subject_id: str = Field(description="Id of the data set, patch or evaluation of the job")
    name: str | None = Field(description="Name of the data set, patch or evaluation; null: it was deleted")
    owner: str | None = Field(description="Name on the key that created it; null: none")
    parent_id: str | None = Field(description="The parent job, if this is a child job")


class EventMove(AliasChange):
    """The move of an alias that an event is about."""

    alias: str = Field(description="Name of the alias")


class InstallationEvent(BaseModel):
    """Something that happened: to a job, or to an alias."""

    id: str = Field(description="Position of the event; pass it as `after`, or as `Last-Event-ID`, to continue here")
    at: datetime = Field(description="When it happened")
    type: Literal["job", "alias"] = Field(description="What it is about")
    message: str = Field(
        description="Of a job: `queued`, `started`, `given back`, `cancel requested`, `retried`, `succeeded`, `failed` "
        "or `cancelled`; of an alias: `moved`, `rolled back` or `deleted`"
    )
    job: EventJob | None = Field(default=None, description="The job; null: the event is about an alias")
    move: EventMove | None = Field(default=None, description="The move; null: the event is about a job")

    @classmethod
    def of(cls, position: Position, entry: Entry) -> Self:
        """Return the event of an entry."""
        if isinstance(entry, JobEntry):
            row = entry.job
            job = EventJob(
                id=row.id,
                kind=JobKind(row.kind),
                subject_id=row.subject_id,
                name=entry.name,
                owner=row.owner,
                parent_id=row.parent_id,
            )
            return cls(id=str(position), at=entry.at, type="job", message=entry.event.message, job=job)
        move = EventMove.from_row(entry, from_version=entry.from_version_id, to_version=entry.to_version_id)
        message = "deleted" if entry.to_version_id is None else "moved" if entry.restores_id is None else "rolled back"
        return cls(id=str(position), at=entry.at, type="alias", message=message, move=move)


class InstallationEvents(BaseModel):
    """Events of the installation, oldest first."""

    items: list[InstallationEvent] = Field(description="The events")
    next_after: str = Field(description="Pass this as `after` to get the events that follow")
