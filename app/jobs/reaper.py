"""The reaper: ends jobs that cannot be finished and dispatches again those that no worker holds.

This also recovers from a broker that was down or lost its messages, because jobs are rows in the database.
"""

from __future__ import annotations

from app.jobs.dispatcher import Dispatcher
from registry.database import Database
from registry.jobs import Jobs


def reap(database: Database, dispatcher: Dispatcher, redispatch_after_seconds: float) -> list[str]:
    """Dispatch the jobs that wait and return their ids, oldest first.

    The broker never holds more messages than there are waiting jobs, so that duplicates do not pile up. Nothing is
    dispatched while the broker cannot be reached. A worker without a connection to the broker polls the database. A job
    is not dispatched again before `redispatch_after_seconds` have passed.
    """
    with database.write() as session:
        due = Jobs(session).reap(redispatch_after_seconds)
    depth = dispatcher.depth() if due else None
    if depth is None:
        return []
    missing = due[: max(len(due) - depth, 0)]
    for job_id in missing:
        with database.write() as session:  # one each: the holder of a child job's row must not wait for another row
            Jobs(session).mark_dispatched(job_id)
        dispatcher.dispatch(job_id)
    return missing
