"""The reaper: ends jobs that nobody can finish and rings again for those that nobody holds.

A broker that was down, or lost every message, is healed by it: the jobs are rows, and the rows are rung for again.
"""

from __future__ import annotations

from app.jobs.dispatcher import Doorbell
from registry.database import Database
from registry.jobs import Jobs


def reap(database: Database, doorbell: Doorbell, quiet_seconds: float) -> list[str]:
    """Return the ids of the jobs that were rung for.

    There are never more messages in the broker than jobs that wait, so that a busy worker does not pile up duplicates.
    Nothing is rung while the broker cannot be reached. A worker that is deaf to the broker looks into the database by
    itself.

    Args:
        database: Holds the jobs.
        doorbell: What to ring.
        quiet_seconds: A job that was rung for less than this ago is left alone.

    Returns:
        Ids, oldest job first.
    """
    with database.write() as session:
        due = Jobs(session).reap(quiet_seconds)
    depth = doorbell.depth() if due else None
    if depth is None:
        return []
    missing = due[: max(len(due) - depth, 0)]
    for job_id in missing:
        with database.write() as session:  # one each: whoever holds a part's row must not wait for another's
            Jobs(session).mark_rung(job_id)
        doorbell.ring(job_id)
    return missing
