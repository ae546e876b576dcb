"""What belongs to a traced request: its `traceparent` in the context, so that log lines and jobs keep it."""

from __future__ import annotations

import structlog
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.tracing import TRACEPARENT, Tracing

_UNTRACED = frozenset({"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})


class TraceContext:
    """Binds the `traceparent` of a request, whose span FastAPI has opened; only added if tracing is on."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        traceparent = self._tracing.traceparent() if scope["type"] == "http" else None
        if traceparent is None:
            return await self._app(scope, receive, send)
        with structlog.contextvars.bound_contextvars(**{TRACEPARENT: traceparent}):
            await self._app(scope, receive, send)


def configure_telemetry(tracing: Tracing) -> TelemetryConfig:
    """Return what FastAPI records itself: a span for each request, if tracing is on; off saves a lookup per request."""
    off: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
    if not tracing.is_on:
        return off
    on: TelemetryConfig = {
        "tracing": True,
        "operation_spans": False,
        "tracer_provider": tracing.provider,
        "exclude": is_untraced,
    }
    return {**off, **on}


def is_untraced(scope: Scope) -> bool:
    """Return whether a request is a probe or a scrape, of which no span is recorded."""
    return str(scope.get("path", "")) in _UNTRACED
