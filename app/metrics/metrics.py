"""Metrics of this process. Names are stable, units are base units, and every label has few values.

Each application has its own registry, so that two in one process do not conflict.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics

from app.http.dependencies import provided
from app.serving.model import MAX_BATCH_IMAGES

MOST_VERSIONS = 100
"""Maximum number of versions with their own series; the least recently used is dropped."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Those of OpenTelemetry's `http.server.request.duration`."""

_BATCH_BUCKETS = tuple(float(2**power) for power in range(MAX_BATCH_IMAGES.bit_length()))


class Metrics:
    """Metrics that are counted in the code, and the registry of all metrics."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a second series a counter, which nobody reads
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "paintbox_http_requests",
            "Requests by method, route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "paintbox_http_request_duration_seconds",
            "Response time, to the end of a stream.",
            ("method", "route"),
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._batch_images = Histogram(
            "paintbox_inference_batch_images",
            "Images in a forward pass.",
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self._images = Counter(
            "paintbox_images_classified",
            "Classified images by version, of the last 100 versions.",
            ("version",),
            registry=self.registry,
        )
        self._answer_seconds = Histogram(
            "paintbox_classify_duration_seconds",
            "Time from the labels of a classify request to its scores, by version; the count is that of requests.",
            ("version",),
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._failures = Counter(
            "paintbox_classify_failures",
            "Classify requests that failed for reasons other than invalid input, by version.",
            ("version",),
            registry=self.registry,
        )
        self._webhooks = Counter(
            "paintbox_webhook_tries",
            "Attempts of this process to deliver a webhook: delivered, failed (retried) or refused (given up).",
            ("outcome",),
            registry=self.registry,
        )
        self._refusals = Counter(
            "paintbox_alias_refusals",
            "Moves of active, canary, shadow or other aliases that the guard refused, by error code.",
            ("alias", "code"),
            registry=self.registry,
        )
        self._kept_samples = Counter(
            "paintbox_samples_kept",
            "Images kept to be labelled: sampled or shadow.",
            ("source",),
            registry=self.registry,
        )
        self._dropped_samples = Counter(
            "paintbox_samples_dropped",
            "Requests or images that were to be kept and were not: queue_full, storage_full or failed.",
            ("reason",),
            registry=self.registry,
        )
        self._answered: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}  # labels() is slow
        self._versions: OrderedDict[int, tuple[Counter, Histogram, Counter]] = OrderedDict()

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. `route` is the template of its path, never the path itself."""
        method = method if method in _METHODS else "other"
        series = self._answered.get((method, route, status))
        if series is None:
            series = self._requests.labels(method, route, str(status)), self._request_seconds.labels(method, route)
            self._answered[method, route, status] = series
        series[0].inc()
        series[1].observe(seconds)

    def count_webhook(self, outcome: str) -> None:
        """Count a try to deliver a message: `delivered`, `failed` or `refused`."""
        self._webhooks.labels(outcome).inc()

    def count_refusal(self, alias: str, code: str) -> None:
        """Count a refused move of an alias: `active`, `canary`, `shadow` or `other`."""
        self._refusals.labels(alias, code).inc()

    def count_kept_sample(self, source: str) -> None:
        """Count an image that was kept: `sampled` or `shadow`."""
        self._kept_samples.labels(source).inc()

    def count_dropped_sample(self, reason: str) -> None:
        """Count what was not kept: `queue_full`, `storage_full` or `failed`."""
        self._dropped_samples.labels(reason).inc()

    def observe_batch(self, num_images: int) -> None:
        """Count a forward pass."""
        self._batch_images.observe(num_images)

    def count_images(self, version_id: int, num_images: int, seconds: float = 0.0) -> None:
        """Count images that a version classified in one request; call it on the event loop's thread only."""
        images, answer_seconds, _ = self._series_of(version_id)
        images.inc(num_images)
        answer_seconds.observe(seconds)

    def count_failure(self, version_id: int) -> None:
        """Count a failed request of a version; call it on the event loop's thread only."""
        _, _, failures = self._series_of(version_id)
        failures.inc()

    def _series_of(self, version_id: int) -> tuple[Counter, Histogram, Counter]:
        series = self._versions.get(version_id)
        if series is None:
            label = str(version_id)
            series = self._images.labels(label), self._answer_seconds.labels(label), self._failures.labels(label)
            self._versions[version_id] = series
        self._versions.move_to_end(version_id)
        if len(self._versions) > MOST_VERSIONS:
            oldest, _ = self._versions.popitem(last=False)
            for metric in (self._images, self._answer_seconds, self._failures):
                metric.remove(str(oldest))
        return series


MetricsDep = Annotated[Metrics, provided(Metrics)]
