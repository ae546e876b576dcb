"""`celery -A worker.celery_app inspect jobs`: the jobs in progress of each worker.

`inspect active` shows the job of the message that a worker received, which need not be the job that it took.
"""

from __future__ import annotations

from celery.worker.control import inspect_command

from worker.in_work import jobs_in_work


@inspect_command()  # type: ignore[untyped-decorator]
def jobs(_state: object) -> list[dict[str, str | int]]:
    """Jobs in work, with the token of the lease and the time at which the worker took them."""
    return jobs_in_work()
