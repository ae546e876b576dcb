"""`docs/reference/metrics.md`: everything that `GET /metrics` exports."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from docs.generating.markdown import page, table

_INTRODUCTION = """`GET /metrics` returns the Prometheus text format and needs no key. Labels have few values: no \
paths, names or keys; `route` is the template of a path. The `paintbox_job*` and `paintbox_webhooks*` metrics, and \
`paintbox_database_up`, describe the whole installation, and every API process exports them alike: aggregate them with \
`max`, not `sum`. Durations and lease losses are counted from the start of a process. How to use them: \
[metrics and logs](../operations.md#metrics-and-logs)."""
_SUFFIXES = {"counter": "_total", "info": "_info"}


def build_metrics(registry: CollectorRegistry) -> str:
    """Return the page.

    Args:
        registry: That of a running application.
    """
    rows = {
        name: (f"`{name}{_braced(labels)}`", family.type, family.documentation)
        for collector in tuple(registry._collector_to_names)  # the only list of collectors
        for family, labels in _families(collector)
        for name in [family.name + _SUFFIXES.get(family.type, "")]
    }
    own, process = (
        [row for name, row in sorted(rows.items()) if name.startswith(start)] for start in ("paintbox_", "process_")
    )
    header = ("metric", "type", "meaning")
    return page("Metrics", _INTRODUCTION, table(header, own), "## The process", table(header, process))


def _families(collector: Collector) -> Iterator[tuple[Metric, tuple[str, ...]]]:
    """Yield the metrics of a collector with the names of their labels, which samples alone do not tell."""
    counted = [each for each in (collector, *vars(collector).values()) if isinstance(each, MetricWrapperBase)]
    known = {each._name: tuple(each._labelnames) for each in counted}
    for family in collector.collect():
        labels = known.get(family.name, tuple(getattr(family, "_labelnames", ())))
        yield family, labels or _labels_of_samples(family)


def _labels_of_samples(family: Metric) -> tuple[str, ...]:
    return tuple(family.samples[0].labels) if family.type == "info" and family.samples else ()


def _braced(labels: tuple[str, ...]) -> str:
    return "{" + ",".join(labels) + "}" if labels else ""
