"""Messages about finished jobs and moved aliases, from the event's transaction until they are delivered or given up."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, literal, select, tuple_, update

from contract.jobs import DeliveryState
from registry.repository import Repository
from registry.tables import JobRow, WebhookDeliveryRow

RETRY_SECONDS = (5.0, 30.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0)
"""Waits between tries: eight tries within about 18 hours, then the message is given up."""

_ERROR_LENGTH = 500
_PAGE = 200


@dataclass(frozen=True)
class Due:
    """A message that may be claimed."""

    id: str
    url: str
    owner: str | None


@dataclass(frozen=True)
class Delivery:
    """A message that a sender has claimed and now tries to deliver.

    Attributes:
        id: The message's, the same at each try.
        job_id: The job that it is about; None: an alias.
        num_tries: Number of this try, from 1 on.
    """

    id: str
    job_id: str | None
    url: str
    payload: dict[str, Any]
    num_tries: int


class Deliveries(Repository):
    """Messages within one transaction."""

    def add(self, job: JobRow) -> None:
        """Create a message about a job that ends in this transaction, if its owner requested one."""
        if job.webhook_url is not None:
            self.tell(job.webhook_url, f"job.{job.status}", _data(job), job.id)

    def tell(self, url: str, event: str, data: dict[str, Any], job_id: str | None = None) -> None:
        """Create a message about an event of this transaction.

        Args:
            url: The receiver.
            event: Such as `alias.moved`.
            data: What happened.
            job_id: The job that it is about, if any.
        """
        now = self._now()
        self._session.add(
            WebhookDeliveryRow(
                id=f"msg_{secrets.token_hex(12)}",
                job_id=job_id,
                url=url,
                payload={"type": event, "timestamp": now.isoformat(), "data": data},
                state=DeliveryState.WAITING,
                num_tries=0,
                due_at=now,
                created_at=now,
            )
        )

    def due(self, without_urls: Collection[str] = (), without_origins: Collection[str] = ()) -> Iterator[Due]:
        """Yield messages that are due, longest due first.

        Args:
            without_urls: Leave out messages to exactly these URLs.
            without_origins: Leave out messages to URLs below these, such as `https://hooks.example.com`, in this exact
                spelling.
        """
        query = select(WebhookDeliveryRow.id, WebhookDeliveryRow.url, JobRow.owner)
        query = query.outerjoin(JobRow, JobRow.id == WebhookDeliveryRow.job_id)
        query = query.where(WebhookDeliveryRow.due_at <= self._now(), WebhookDeliveryRow.url.not_in(without_urls))
        for origin in without_origins:
            query = query.where(~WebhookDeliveryRow.url.startswith(f"{origin}/", autoescape=True))
        order = (WebhookDeliveryRow.due_at, WebhookDeliveryRow.id)
        query = query.add_columns(WebhookDeliveryRow.due_at).order_by(*order).limit(_PAGE)
        page = self._session.execute(query).all()
        while page:
            yield from (Due(row.id, row.url, row.owner) for row in page)
            later = tuple_(*order) > tuple_(literal(page[-1].due_at, order[0].type), literal(page[-1].id))
            page = self._session.execute(query.where(later)).all()

    def claim(self, ids: Collection[str], seconds: float) -> list[Delivery]:
        """Return the messages that are still due, reserved for the caller for some seconds.

        Args:
            seconds: Longer than a try takes; after that, a message of a sender that died is due again.
        """
        now = self._now()
        query = select(WebhookDeliveryRow).where(WebhookDeliveryRow.id.in_(ids), WebhookDeliveryRow.due_at <= now)
        query = query.order_by(WebhookDeliveryRow.due_at, WebhookDeliveryRow.id).with_for_update(skip_locked=True)
        rows = self._session.scalars(query, execution_options={"populate_existing": True}).all()
        for row in rows:
            row.num_tries += 1
            row.due_at = now + timedelta(seconds=seconds)
        return [Delivery(row.id, row.job_id, row.url, row.payload, row.num_tries) for row in rows]

    def give_back(self, delivery: Delivery) -> None:
        """Make a claimed message due again, as if it had not been claimed: the try was aborted."""
        values = {"due_at": self._now(), "num_tries": delivery.num_tries - 1}
        self._session.execute(update(WebhookDeliveryRow).where(*_claimed(delivery)).values(**values))

    def backlog(self) -> tuple[int, float]:
        """Return how many messages wait, and for how many seconds the oldest of them has."""
        query = select(func.count(), func.min(WebhookDeliveryRow.created_at))
        num_waiting, oldest = self._session.execute(query.where(WebhookDeliveryRow.due_at.is_not(None))).one()
        return num_waiting, max(0.0, (self._now() - oldest).total_seconds()) if oldest is not None else 0.0

    def note(self, delivery: Delivery, error: str | None, *, try_again: bool = True) -> None:
        """Record the result of a try, unless the message has been claimed again since.

        Args:
            error: Why it was not delivered; None if it was.
            try_again: Whether another try may help.
        """
        values: dict[str, Any] = {"due_at": None, "last_error": None if error is None else error[:_ERROR_LENGTH]}
        if error is None:
            values["state"] = DeliveryState.DELIVERED
        elif not try_again or delivery.num_tries > len(RETRY_SECONDS):
            values["state"] = DeliveryState.GIVEN_UP
        else:
            values["due_at"] = self._now() + timedelta(seconds=RETRY_SECONDS[delivery.num_tries - 1])
        self._session.execute(update(WebhookDeliveryRow).where(*_claimed(delivery)).values(**values))

    def purge(self, older_seconds: float) -> int:
        """Delete the messages that were delivered or given up and were made longer ago, and return how many."""
        is_over = WebhookDeliveryRow.due_at.is_(None)
        is_old = WebhookDeliveryRow.created_at < self._now() - timedelta(seconds=older_seconds)
        gone = self._session.execute(delete(WebhookDeliveryRow).where(is_over, is_old).returning(WebhookDeliveryRow.id))
        return len(gone.all())

    def newest_of(self, job_id: str) -> WebhookDeliveryRow | None:
        """Return the message about a job's last end, if there is one."""
        query = select(WebhookDeliveryRow).where(WebhookDeliveryRow.job_id == job_id)
        newest_first = (WebhookDeliveryRow.created_at.desc(), WebhookDeliveryRow.id.desc())
        return self._session.scalars(query.order_by(*newest_first).limit(1)).first()


def _data(job: JobRow) -> dict[str, Any]:
    error = {"code": job.error_code, "detail": job.error_detail} if job.error_code else None
    return {
        "job_id": job.id,
        "kind": job.kind,
        "subject_id": job.subject_id,
        "status": str(job.status),
        "error": error,
    }


def _claimed(delivery: Delivery) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return the condition that a message has not been claimed since."""
    return WebhookDeliveryRow.id == delivery.id, WebhookDeliveryRow.num_tries == delivery.num_tries
