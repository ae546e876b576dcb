"""Metrics of the state of this process, read at each scrape."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version

import torch
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from app.models.pool import VersionPool
from app.models.shadow import Shadow
from app.serving.engine import Engine
from app.storage.service import Storage
from contract.versions import CANARY_ALIAS, SHADOW_ALIAS
from paint_core.models import BaseModel


class StateCollector(Collector):
    """Reads the state of this process."""

    def __init__(
        self,
        engine: Engine,
        versions: VersionPool,
        bases: Mapping[str, BaseModel],
        shadow: Shadow,
        storage: Storage,
    ) -> None:
        self._engine = engine
        self._versions = versions
        self._shadow = shadow
        self._storage = storage
        self._device = next(iter(bases.values())).device

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics as they are now."""
        yield InfoMetricFamily(
            "paintbox_build",
            "Versions of the software.",
            {"version": version("paintbox"), "python": platform.python_version(), "torch": torch.__version__},
        )
        active = InfoMetricFamily(
            "paintbox_active_version", "The version that this process serves.", labels=("version",)
        )
        if (served := self._versions.active) is not None:
            active.add_metric((str(served.version_id),), {})
        yield active
        yield from self._read_secondary()
        yield GaugeMetricFamily(
            "paintbox_inference_queue_images",
            "Images waiting or being classified.",
            self._engine.admission.num_images,
        )
        yield GaugeMetricFamily(
            "paintbox_inference_queue_texts",
            "Texts waiting or being encoded, including prompts of new labels.",
            self._engine.heads.admission.num_images,
        )
        kept = GaugeMetricFamily(
            "paintbox_cache_bytes",
            "Memory used by cached label sets (heads) and by cached versions that were requested by id (versions).",
            labels=("cache",),
            unit="bytes",
        )
        kept.add_metric(("heads",), self._engine.heads.num_bytes)
        kept.add_metric(("versions",), self._versions.cached_bytes)
        yield kept
        with suppress(OSError):  # an unavailable disk must not suppress the other metrics
            yield GaugeMetricFamily(
                "paintbox_data_free_bytes",
                "Free bytes on the data disk with the least free space.",
                self._storage.room().free_bytes,
            )
        yield from self._read_device()

    def _read_secondary(self) -> Iterable[Metric]:
        for alias, what in ((CANARY_ALIAS, "answers a share of the requests"), (SHADOW_ALIAS, "runs in shadow")):
            info = InfoMetricFamily(
                f"paintbox_{alias}_version", f"The version that {what} in this process.", labels=("version",)
            )
            held = self._versions.serving(alias)
            if held is not None:
                info.add_metric((str(held.version_id),), {})
            yield info
        images = CounterMetricFamily(
            "paintbox_shadow_images",
            "Images sent to the shadow: agreed, differed (in the first label) or dropped; reset when one changes.",
            labels=("version", "outcome"),
        )
        ratio = GaugeMetricFamily(
            "paintbox_shadow_agreement_ratio",
            "Share of the compared images on which shadow and active version agree.",
            labels=("version",),
        )
        tally = self._shadow.tally
        if tally is not None:
            for outcome in ("agreed", "differed", "dropped"):
                images.add_metric((str(tally.shadow), outcome), getattr(tally, outcome))
            if tally.agreement is not None:
                ratio.add_metric((str(tally.shadow),), tally.agreement)
        yield from (images, ratio)

    def _read_device(self) -> Iterable[Metric]:
        used = GaugeMetricFamily("paintbox_device_memory_used_bytes", "Used memory of the GPU, by all processes.")
        limit = GaugeMetricFamily("paintbox_device_memory_limit_bytes", "Memory of the GPU; no value without one.")
        if self._device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self._device)
            used.add_metric((), total - free)
            limit.add_metric((), total)
        yield from (used, limit)
