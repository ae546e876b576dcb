"""Celery's pool of threads, whose size can change; each thread supervises a trainer.

A trainer is a process of its own, so Celery's pool of processes would only add another process in between. Threads know
at once when the worker stops or drains, continue while the broker is unavailable, and nothing is forked that holds a
connection to the database.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import structlog
from celery.concurrency.thread import TaskPool

_log = structlog.get_logger()


class SupervisorPool(TaskPool):  # type: ignore[misc]
    """Celery's pool of threads, which `--autoscale` and `control pool_grow` can grow and shrink, too."""

    limit: int

    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        """Start a task in a thread; log errors of Celery itself, which would go unseen otherwise."""
        result = super().on_apply(*args, **kwargs)
        result.f.add_done_callback(_log_error)
        return result

    def grow(self, n: int = 1) -> None:
        """Let so many more jobs be in work at once."""
        self.limit += n
        self.executor._max_workers = self.limit

    def shrink(self, n: int = 1) -> None:
        """Allow fewer concurrent jobs; those in progress continue."""
        self.limit = max(self.limit - n, 1)
        self.executor._max_workers = self.limit


def _log_error(future: Future[Any]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None:
        _log.error("task not started", exc_info=error)
