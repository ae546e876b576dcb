"""The pool of a Paintbox worker: threads that watch over trainers.

A trainer is a process of its own, so Celery's pool of processes would only add one between it and the worker. Threads
know at once when the worker stops or is drained, go on while the broker is away, and nothing is forked that holds a
connection to the database.
"""

from __future__ import annotations

from celery.concurrency.thread import TaskPool


class SupervisorPool(TaskPool):  # type: ignore[misc]
    """Celery's pool of threads, which `--autoscale` and `control pool_grow` can grow and shrink, too."""

    limit: int

    def grow(self, n: int = 1) -> None:
        """Let so many more jobs be in work at once."""
        self.limit += n
        self.executor._max_workers = self.limit

    def shrink(self, n: int = 1) -> None:
        """Let so many fewer jobs be in work at once; those in work go on."""
        self.limit = max(self.limit - n, 1)
        self.executor._max_workers = self.limit
