"""`celery -A worker.celery_app inspect jobs`: which jobs each worker has in work.

`inspect active` shows the job that a worker was told of, which need not be the one that it then took: the best.
"""

from __future__ import annotations

from celery.worker.control import inspect_command

from worker.in_work import jobs_in_work


@inspect_command()  # type: ignore[untyped-decorator]
def jobs(_state: object) -> list[dict[str, str | int]]:
    """Jobs in work, with the token of the lease and the time at which the worker took them."""
    return jobs_in_work()
