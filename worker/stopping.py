"""How the supervisor in a pool process learns that its worker is shutting down.

Celery's warm shutdown waits for the running task and tells it nothing, which for a patch job means hours. So the main
process sets an event that its forked pool processes share, and the supervisor gives the job back within a second.
"""

from __future__ import annotations

import multiprocessing

from celery.signals import worker_shutting_down

_stopping = multiprocessing.get_context("fork").Event()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _remember(**_: object) -> None:
    _stopping.set()


def is_stopping() -> bool:
    """Return whether this worker was asked to shut down."""
    return _stopping.is_set()
