"""Metrics of the jobs of the whole installation, read from the database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from contract.jobs import JobKind, JobStatus
from registry.database import Database, utc_now
from registry.job_stats import EndedJob, JobStats

_OVERLAP = timedelta(minutes=1)
"""Transactions may commit later than their timestamps; jobs are read again for this long."""

_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 43_200.0, 172_800.0)
_STAGES = frozenset({"prepare", "finetune", "select", "evaluate", "register"})
_log = structlog.get_logger(__name__)


class JobCollector(Collector):
    """Reads the jobs of the installation, which every API process reports alike: do not add them up.

    If the database is unavailable, only these metrics are missing.
    """

    def __init__(self, database: Database, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._now = now
        self._lock = threading.Lock()
        self._started = self._latest = now()
        self._counted: dict[str, datetime] = {}
        self._lapsed: frozenset[tuple[str, int]] = frozenset()
        self._lease_losses = Counter("paintbox_job_lease_losses", "Expired leases seen by this process.", registry=None)
        self._job_seconds = Histogram(
            "paintbox_job_duration_seconds",
            "Time from the first start of a job to its end, for jobs that ended since this process started.",
            ("kind", "status"),
            buckets=_BUCKETS,
            registry=None,
        )
        self._stage_seconds = Histogram(
            "paintbox_job_stage_duration_seconds",
            "Duration of the stages of patches, for jobs that ended since this process started.",
            ("stage",),
            buckets=_BUCKETS,
            registry=None,
        )

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics as they are now."""
        up = GaugeMetricFamily("paintbox_database_up", "1 if the database is reachable, else 0.")
        jobs = GaugeMetricFamily(
            "paintbox_jobs",
            "Jobs in the database by kind and status; queued is the length of the queue.",
            labels=("kind", "status"),
        )
        wait = GaugeMetricFamily(
            "paintbox_job_longest_wait_seconds",
            "Waiting time of the job that is next to start; 0: none waits. It grows as long as no worker takes jobs.",
        )
        silence = GaugeMetricFamily(
            "paintbox_job_longest_silence_seconds",
            "Longest time since the last report of a running job; 0: no job is running.",
        )
        try:
            self.count_lapses()
            self._count_ended()
            with self._database.read() as session:
                figures = JobStats(session)
                counts, waited = figures.counts(), figures.longest_wait_seconds()
                silent = figures.longest_silence_seconds()
        except SQLAlchemyError as error:
            _log.warning("cannot count jobs", error=type(error).__name__)
            up.add_metric((), 0)
        else:
            up.add_metric((), 1)
            wait.add_metric((), waited)
            silence.add_metric((), silent)
            for kind in JobKind:
                for status in JobStatus:
                    jobs.add_metric((kind, status), counts.get((kind, status), 0))
        yield from (up, jobs, wait, silence)
        for metric in (self._lease_losses, self._job_seconds, self._stage_seconds):
            yield from metric.collect()

    def count_lapses(self) -> None:
        """Count the leases that expired since the last call; the reaper calls it before it releases the jobs."""
        with self._lock, self._database.read() as session:
            lapsed = JobStats(session, self._now).lapsed_leases()
            self._lease_losses.inc(len(lapsed - self._lapsed))
            self._lapsed = lapsed

    def _count_ended(self) -> None:
        with self._lock, self._database.read() as session:
            figures = JobStats(session)
            ended = figures.ended_since(max(self._started, self._latest - _OVERLAP))
            for job in ended:
                if self._counted.get(job.id) != job.finished_at:  # a retried job ends twice
                    self._observe(job, figures.stage_seconds(job.id))
            self._counted = {job.id: job.finished_at for job in ended}
            self._latest = max((job.finished_at for job in ended), default=self._latest)

    def _observe(self, job: EndedJob, stage_seconds: dict[str, float]) -> None:
        if job.run_seconds is not None:
            self._job_seconds.labels(job.kind, job.status).observe(job.run_seconds)
        for stage, seconds in stage_seconds.items():
            self._stage_seconds.labels(stage if stage in _STAGES else "other").observe(seconds)
