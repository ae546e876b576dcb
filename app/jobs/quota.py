"""The quota of unfinished jobs per owner, so that no owner can fill the queue."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.http.errors import JobQuotaError
from registry.jobs import Jobs


def check_quota(session: Session, owner: str | None, most: int) -> None:
    """Reject another job of an owner who has too many; concurrent requests may both be accepted.

    Args:
        session: The transaction that is about to create the job.
        owner: By the name on the key; None: not counted.
        most: Maximum number of unfinished jobs.

    Raises:
        JobQuotaError: The owner has that many.
    """
    if owner is None:
        return
    num_unfinished = Jobs(session).count_unfinished(owner)
    if num_unfinished >= most:
        raise JobQuotaError(owner, num_unfinished)
