"""Messages about finished jobs, from the moment that the job ends until they are delivered or given up."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update

from registry.contract import DeliveryState
from registry.repository import Repository
from registry.tables import JobRow, WebhookDeliveryRow

RETRY_SECONDS = (5.0, 30.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0)
"""Waits between tries: eight tries within about 18 hours, then the message is given up."""

_ERROR_LENGTH = 500


@dataclass(frozen=True)
class Delivery:
    """A message that its reader has claimed, and so tries to deliver now.

    Attributes:
        id: The message's, the same at each try.
        job_id: The job that it is about.
        url: Where it goes.
        payload: What it says.
        num_tries: Which try this is; the first is 1.
    """

    id: str
    job_id: str
    url: str
    payload: dict[str, Any]
    num_tries: int


class Deliveries(Repository):
    """Messages within one transaction."""

    def add(self, job: JobRow) -> None:
        """Make a message about a job that ends in this transaction, if its owner asked for one."""
        if job.webhook_url is None:
            return
        self._session.add(
            WebhookDeliveryRow(
                id=f"msg_{secrets.token_hex(12)}",
                job_id=job.id,
                url=job.webhook_url,
                payload=self._payload(job),
                state=DeliveryState.WAITING,
                num_tries=0,
                due_at=self._now(),
                created_at=self._now(),
            )
        )

    def claim(self, limit: int, seconds: float) -> list[Delivery]:
        """Return messages that are due, and let nobody else have them for some seconds.

        Args:
            limit: Most messages.
            seconds: Longer than a try takes; a message whose claimer dies is due again after that.

        Returns:
            The messages, those that are due longest first.
        """
        now = self._now()
        query = select(WebhookDeliveryRow).where(WebhookDeliveryRow.due_at <= now)
        query = query.order_by(WebhookDeliveryRow.due_at).limit(limit).with_for_update(skip_locked=True)
        rows = self._session.scalars(query, execution_options={"populate_existing": True}).all()
        for row in rows:
            row.num_tries += 1
            row.due_at = now + timedelta(seconds=seconds)
        return [Delivery(row.id, row.job_id, row.url, row.payload, row.num_tries) for row in rows]

    def note(self, delivery: Delivery, error: str | None, *, try_again: bool = True) -> None:
        """Write down what came of a try, unless the message has been claimed again since.

        Args:
            delivery: As it was claimed.
            error: Why it was not delivered; None: it was.
            try_again: Whether another try may help.
        """
        values: dict[str, Any] = {"due_at": None, "last_error": None if error is None else error[:_ERROR_LENGTH]}
        if error is None:
            values["state"] = DeliveryState.DELIVERED
        elif not try_again or delivery.num_tries > len(RETRY_SECONDS):
            values["state"] = DeliveryState.GIVEN_UP
        else:
            values["due_at"] = self._now() + timedelta(seconds=RETRY_SECONDS[delivery.num_tries - 1])
        claimed = (WebhookDeliveryRow.id == delivery.id, WebhookDeliveryRow.num_tries == delivery.num_tries)
        self._session.execute(update(WebhookDeliveryRow).where(*claimed).values(**values))

    def newest_of(self, job_id: str) -> WebhookDeliveryRow | None:
        """Return the message about a job's last end, if there is one."""
        query = select(WebhookDeliveryRow).where(WebhookDeliveryRow.job_id == job_id)
        newest_first = (WebhookDeliveryRow.created_at.desc(), WebhookDeliveryRow.id.desc())
        return self._session.scalars(query.order_by(*newest_first).limit(1)).first()

    def _payload(self, job: JobRow) -> dict[str, Any]:
        error = {"code": job.error_code, "detail": job.error_detail} if job.error_code else None
        return {
            "type": f"job.{job.status}",
            "timestamp": self._now().isoformat(),
            "data": {
                "job_id": job.id,
                "kind": job.kind,
                "subject_id": job.subject_id,
                "status": str(job.status),
                "error": error,
            },
        }
