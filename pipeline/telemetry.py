"""Which tracing the settings ask for."""

from __future__ import annotations

from pipeline.tracing import NO_TRACING, Tracing
from registry.errors import ConfigurationError
from registry.settings import StorageSettings


def open_tracing(settings: StorageSettings, service: str) -> Tracing:
    """Return the tracing that the settings ask for; OpenTelemetry is imported only if it is on.

    Args:
        service: `service.name` of the process, unless OTEL_SERVICE_NAME is set.

    Raises:
        ConfigurationError: It is on, and OpenTelemetry is not installed.
    """
    if not settings.tracing:
        return NO_TRACING
    try:
        from pipeline.otel import OtelTracing
    except ImportError as error:
        raise ConfigurationError(
            f"PAINTBOX_TRACING: OpenTelemetry is not installed ({error}).",
            "Install the extra `otel`, or unset PAINTBOX_TRACING.",
        ) from error
    return OtelTracing(service)
