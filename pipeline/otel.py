"""Tracing by OpenTelemetry; imported only where it is switched on. The SDK reads the standard OTEL_* variables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pipeline.tracing import NO_ATTRIBUTES, TRACEPARENT, Annotate, Attributes, SpanKind, Step

_KINDS = {
    "internal": trace.SpanKind.INTERNAL,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}
_propagator = TraceContextTextMapPropagator()


class OtelTracing:
    """Sends spans over OTLP/HTTP, from a thread of its own.

    Args:
        service: `service.name` of the process, unless OTEL_SERVICE_NAME is set.
        processor: Gets the spans; default: sends them in batches to OTEL_EXPORTER_OTLP_ENDPOINT.
    """

    is_on = True

    def __init__(self, service: str, processor: SpanProcessor | None = None) -> None:
        own = {"service.name": service, "service.version": version("paintbox")}
        given = OTELResourceDetector().detect().attributes
        self.provider = TracerProvider(resource=Resource.create(own | dict(given)))
        self.provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self.provider.get_tracer("paintbox", version("paintbox"))

    @contextmanager
    def span(
        self,
        name: str,
        *,
        parent: str | None = None,
        kind: SpanKind = "internal",
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> Iterator[Annotate]:
        """Record a span while the context lasts, and yield what adds attributes to it."""
        context = _propagator.extract({TRACEPARENT: parent}) if parent else None
        with self._tracer.start_as_current_span(
            name, context=context, kind=_KINDS[kind], attributes=dict(attributes)
        ) as span:
            yield lambda more: span.set_attributes(dict(more))

    def record(self, steps: Sequence[Step]) -> None:
        """Record steps that are over, as children of the current span."""
        offset = time.time() - time.perf_counter()
        for step in steps:
            span = self._tracer.start_span(step.name, start_time=_nanoseconds(step.start + offset))
            span.end(_nanoseconds(step.end + offset))

    def traceparent(self) -> str | None:
        """Return the `traceparent` of the current span, if it is sampled."""
        if not trace.get_current_span().get_span_context().trace_flags.sampled:
            return None
        carrier: dict[str, str] = {}
        _propagator.inject(carrier)
        return carrier.get(TRACEPARENT)

    def close(self) -> None:
        """Send what was recorded."""
        self.provider.shutdown()


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
