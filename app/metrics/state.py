"""Metrics of what this process serves and runs on, read when they are asked for."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version

import torch
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from app.serving.engine import Engine
from paint_core.models import BaseModel


class StateCollector(Collector):
    """Reads the state of this process.

    Args:
        engine: Serves versions.
        bases: Loaded base models by fingerprint.
    """

    def __init__(self, engine: Engine, bases: Mapping[str, BaseModel]) -> None:
        self._engine = engine
        self._device = next(iter(bases.values())).device

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics as they are now."""
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

    def _read_device(self) -> Iterable[Metric]:
        free, total = torch.cuda.mem_get_info(self._device)
        yield GaugeMetricFamily("paintbox_device_memory_used_bytes", "Memory of the GPU in use, by all.", total - free)
        yield GaugeMetricFamily("paintbox_device_memory_limit_bytes", "Memory of the GPU.", total)
