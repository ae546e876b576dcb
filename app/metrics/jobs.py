"""Watching the jobs of the whole installation, whose truth is in the database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from app.metrics.registry import Metrics
from registry.database import Database, utc_now
from registry.figures import EndedJob, JobFigures

_OVERLAP = timedelta(minutes=1)
"""A transaction may commit later than the moment that it wrote; jobs this old are looked at again."""

_STAGES = frozenset({"prepare", "finetune", "select", "evaluate", "register"})


class JobWatch:
    """Turns what happens to jobs into metrics. Every API process sees all jobs, so do not add up their figures.

    Args:
        database: Holds the jobs.
        metrics: Receive what was seen.
        now: Clock; tests pass their own.
    """

    def __init__(self, database: Database, metrics: Metrics, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._metrics = metrics
        self._now = now
        self._lock = threading.Lock()
        self._started = self._latest = now()
        self._counted: dict[str, datetime] = {}
        self._lapsed: frozenset[tuple[str, int]] = frozenset()

    def count_lapses(self) -> None:
        """Count the leases that lapsed since the last call; call it before the reaper lets others have the jobs."""
        with self._lock, self._database.read() as session:
            lapsed = JobFigures(session, self._now).lapsed_leases()
            self._metrics.lease_losses.inc(len(lapsed - self._lapsed))
            self._lapsed = lapsed

    def count_ended(self) -> None:
        """Count the jobs that ended since the last call."""
        with self._lock, self._database.read() as session:
            figures = JobFigures(session)
            since = max(self._started, self._latest - _OVERLAP)
            ended = figures.ended_since(since)
            for job in ended:
                if self._counted.get(job.id) != job.finished_at:  # one that was retried ends twice
                    self._count(job, figures.stage_seconds(job.id))
            self._counted = {job.id: job.finished_at for job in ended}
            self._latest = max((job.finished_at for job in ended), default=self._latest)

    def _count(self, job: EndedJob, stage_seconds: dict[str, float]) -> None:
        if job.run_seconds is not None:
            self._metrics.job_seconds.labels(job.kind, job.status).observe(job.run_seconds)
        for stage, seconds in stage_seconds.items():
            self._metrics.stage_seconds.labels(stage if stage in _STAGES else "other").observe(seconds)
