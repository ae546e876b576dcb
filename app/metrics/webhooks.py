"""Metrics of webhook messages, read from the database."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from registry.database import Database
from registry.deliveries import Deliveries

_log = structlog.get_logger(__name__)


class WebhookCollector(Collector):
    """Reads the pending messages of the installation, which every API process reports alike: do not add them up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterable[Metric]:
        """Yield the current metrics; none while the database is unavailable."""
        try:
            with self._database.read() as session:
                num_waiting, oldest_seconds = Deliveries(session).backlog()
        except SQLAlchemyError as error:
            _log.warning("cannot count webhooks", error=type(error).__name__)
            return
        yield GaugeMetricFamily("paintbox_webhooks_waiting", "Pending webhooks.", num_waiting)
        yield GaugeMetricFamily(
            "paintbox_webhooks_oldest_seconds", "Age of the oldest pending webhook.", oldest_seconds
        )
