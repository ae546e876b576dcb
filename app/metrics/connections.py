"""Metrics of the connections of this process."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.http.connections.table import Connections


class ConnectionCollector(Collector):
    """Reads the open connections of this process."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics as they are now."""
        yield GaugeMetricFamily("paintbox_connections", "Open connections.", len(self._connections))
        ended = CounterMetricFamily(
            "paintbox_connections_ended", "Connections that the service closed early, by reason.", labels=("reason",)
        )
        for reason, count in tuple(self._connections.ended.items()):
            ended.add_metric((reason,), count)
        yield ended
