"""Jobs, their attempts, events and webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.orm import Base


class JobRow(Base):
    """One queued unit of work and its lease. This row is the source of truth, never the broker."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_status_lease", "status", "lease_expires_at"),
        Index("ix_jobs_created", "created_at", "id"),
        Index("ix_jobs_owner", "owner", "created_at", "id"),
        Index("ix_jobs_status_created", "status", "created_at", "id"),
        Index("ix_jobs_parent", "parent_id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    subject_id: Mapped[str] = mapped_column(String(40), index=True)
    parent_id: Mapped[str | None] = mapped_column(String(40))  # the job that this one is a child of
    part: Mapped[str | None] = mapped_column(String(64))  # the task that a child job fine-tunes
    status: Mapped[str] = mapped_column(String(16))
    stage: Mapped[str | None] = mapped_column(String(32))
    progress: Mapped[float] = mapped_column(default=0.0)
    eta_seconds: Mapped[float | None]
    attempt: Mapped[int] = mapped_column(default=0)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    checkpoint: Mapped[dict[str, Any] | None]
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_token: Mapped[int] = mapped_column(default=0)
    lease_expires_at: Mapped[datetime | None]
    lease_renewed_at: Mapped[datetime | None]
    dispatched_at: Mapped[datetime | None] = mapped_column("rung_at")  # when workers were last told of it
    queued_at: Mapped[datetime | None]  # None: when it was created
    progress_at: Mapped[datetime | None]  # when its trainer last reported anything
    paused_until: Mapped[datetime | None]  # not leased before
    num_setbacks: Mapped[int] = mapped_column(default=0, server_default="0")  # pauses since it last made progress
    priority: Mapped[int] = mapped_column(default=1, server_default="1")  # a `Priority`
    webhook_url: Mapped[str | None] = mapped_column(String(2000))
    owner: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobAttemptRow(Base):
    """One worker's attempt at a job, by the token of its lease, and why it ended."""

    __tablename__ = "job_attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    token: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    worker: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    stage: Mapped[str | None] = mapped_column(String(32))
    cause: Mapped[str | None] = mapped_column(String(32))
    detail: Mapped[str | None]
    log_tail: Mapped[str | None]


class JobEventRow(Base):
    """Append-only: what happened to a job, in order."""

    __tablename__ = "job_events"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    at: Mapped[datetime]
    level: Mapped[str] = mapped_column(String(8))
    message: Mapped[str]
    data: Mapped[dict[str, Any] | None]


class WebhookDeliveryRow(Base):
    """A message about a finished job or a moved alias: pending, delivered or abandoned."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)  # null: about an alias
    url: Mapped[str] = mapped_column(String(2000))
    payload: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    num_tries: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime | None] = mapped_column(index=True)  # when to try next; None: never
    last_error: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[datetime]
