"""Metrics that are read when they are asked for: the jobs, what is served, the device."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version

import structlog
import torch
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from app.metrics.jobs import JobWatch
from app.serving.engine import Engine
from paint_core.models import BaseModel
from registry.contract import JobKind, JobStatus
from registry.database import Database
from registry.figures import JobFigures

_log = structlog.get_logger(__name__)


class StateCollector(Collector):
    """Reads the state of the service; a database that does not answer costs its own figures only.

    Args:
        database: Holds the jobs.
        watch: Counts what happened to them.
        engine: Serves versions.
        bases: Loaded base models by fingerprint.
    """

    def __init__(self, database: Database, watch: JobWatch, engine: Engine, bases: Mapping[str, BaseModel]) -> None:
        self._database = database
        self._watch = watch
        self._engine = engine
        self._device = next(iter(bases.values())).device

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics as they are now."""
        yield from self._read_jobs()
        yield InfoMetricFamily(
            "paintbox_build",
            "Versions of the software.",
            {"version": version("paintbox"), "python": platform.python_version(), "torch": torch.__version__},
        )
        active = InfoMetricFamily("paintbox_active_version", "The version that this process answers with.")
        served = self._engine.served
        if served is not None:
            active.add_metric((), {"version": str(served.version_id)})
        yield active
        yield GaugeMetricFamily(
            "paintbox_inference_queue_images",
            "Images that are being classified or wait for it.",
            self._engine.admission.num_images,
        )
        if self._device.type == "cuda":
            yield from self._read_device()

    def _read_jobs(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("paintbox_database_up", "Whether the database answered: 1, or 0.")
        jobs = GaugeMetricFamily("paintbox_jobs", "Jobs by kind and status.", labels=("kind", "status"))
        try:
            self._watch.count_lapses()
            self._watch.count_ended()
            with self._database.read() as session:
                counts = JobFigures(session).counts()
        except SQLAlchemyError as error:
            _log.warning("jobs not counted", error=type(error).__name__)
            up.add_metric((), 0)
        else:
            up.add_metric((), 1)
            for kind in JobKind:
                for status in JobStatus:
                    jobs.add_metric((kind, status), counts.get((kind, status), 0))
        yield up
        yield jobs

    def _read_device(self) -> Iterable[Metric]:
        free, total = torch.cuda.mem_get_info(self._device)
        yield GaugeMetricFamily("paintbox_device_memory_used_bytes", "Memory of the GPU in use, by all.", total - free)
        yield GaugeMetricFamily("paintbox_device_memory_limit_bytes", "Memory of the GPU.", total)
