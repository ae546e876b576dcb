"""How many unfinished jobs one owner may have, so that nobody fills the queue for everybody else."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.http.errors import JobQuotaError
from registry.jobs import Jobs


def check_quota(session: Session, owner: str | None, most: int) -> None:
    """Refuse another job of an owner who has enough of them; requests at the very same moment may both get in.

    Args:
        session: The transaction that is about to make the job.
        owner: Who asks, as their key names them; without keys nobody is counted.
        most: Unfinished jobs that they may have.

    Raises:
        JobQuotaError: They have as many.
    """
    if owner is None:
        return
    num_unfinished = Jobs(session).count_unfinished(owner)
    if num_unfinished >= most:
        raise JobQuotaError(owner, num_unfinished)
