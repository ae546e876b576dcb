"""Traces of requests and jobs, off unless `PAINTBOX_TRACING` is set.

A request's span continues in the worker: the event that a job was queued keeps the `traceparent` of the request
(W3C Trace Context), which is bound to the context as the request's id is. Trainers read untrusted files and get no
address or key of a collector; their supervisor records the spans of their stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

TRACEPARENT = "traceparent"
"""Name of the context variable (structlog) that holds a request's `traceparent`."""

Attributes = Mapping[str, str | int | float | bool]
NO_ATTRIBUTES: Attributes = MappingProxyType({})
Annotate = Callable[[Attributes], None]
SpanKind = Literal["internal", "producer", "consumer"]


class Step(NamedTuple):
    """A step that is over: its name, and its start and end by `time.perf_counter()`."""

    name: str
    start: float
    end: float


class Tracing(Protocol):
    """Records spans.

    Attributes:
        is_on: Whether anything is recorded.
        provider: OpenTelemetry's tracer provider; None: tracing is off.
    """

    is_on: bool
    provider: Any

    def span(
        self,
        name: str,
        *,
        parent: str | None = None,
        kind: SpanKind = "internal",
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> AbstractContextManager[Annotate]:
        """Record a span while the context lasts, and yield what adds attributes to it.

        Args:
            parent: A `traceparent`; None: the current span.
        """

    def record(self, steps: Sequence[Step]) -> None:
        """Record steps that are over, as children of the current span."""

    def traceparent(self) -> str | None:
        """Return the `traceparent` of the current span; None: there is none, or it is not sampled."""

    def close(self) -> None:
        """Send what was recorded."""


class NoTracing:
    """Records nothing."""

    is_on = False
    provider = None

    @contextmanager
    def span(
        self,
        name: str,
        *,
        parent: str | None = None,
        kind: SpanKind = "internal",
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> Iterator[Annotate]:
        """Yield a function that does nothing."""
        yield _ignore

    def record(self, steps: Sequence[Step]) -> None:
        """Do nothing."""

    def traceparent(self) -> str | None:
        """Return None."""
        return None

    def close(self) -> None:
        """Do nothing."""


NO_TRACING = NoTracing()


class Stages:
    """Spans of consecutive stages: each ends when the next one begins. Use it as a context manager."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._name = ""
        self._open = ExitStack()

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def enter(self, name: str) -> None:
        """Begin a stage, unless it is the current one."""
        if name == self._name:
            return
        self._open.close()
        self._name = name
        self._open.enter_context(self._tracing.span(f"stage {name}", attributes={"paintbox.stage": name}))


def _ignore(_: Attributes) -> None:
    """Drop attributes."""
