"""Which jobs this worker process has in work at this moment, for `celery inspect` and for the log."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from registry.leases import Lease

_lock = threading.Lock()
_jobs: dict[Lease, dict[str, str | int]] = {}


@contextmanager
def in_work(lease: Lease) -> Iterator[None]:
    """Count a job among those in work as long as the context lasts."""
    with _lock:
        _jobs[lease] = {
            "job_id": lease.job_id,
            "token": lease.token,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    try:
        yield
    finally:
        with _lock:
            del _jobs[lease]


def jobs_in_work() -> list[dict[str, str | int]]:
    """Return the jobs in work."""
    with _lock:
        return list(_jobs.values())
