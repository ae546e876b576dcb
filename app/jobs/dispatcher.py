"""Tells workers that a job is queued. The message is only a hint: the database is the source of truth.

Mark the job as dispatched in the transaction that queues it, and dispatch it after the commit. A lost message only
delays the job by a few seconds, because the reaper dispatches it again.
"""

from __future__ import annotations

from typing import Annotated, Protocol

import redis
import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from app.http.dependencies import provided
from contract.jobs import QUEUE_NAME, TASK_NAME
from pipeline.tracing import Tracing

_TIMEOUT_SECONDS = 2.0
_log = structlog.get_logger(__name__)


class Dispatcher(Protocol):
    """The interface of the message queue."""

    def dispatch(self, job_id: str) -> None:
        """Tell a worker that the job is queued; never raises and never blocks for long."""

    def depth(self) -> int | None:
        """Return the number of unread messages, or None if the queue cannot be reached."""

    def close(self) -> None:
        """Close the connections."""


class CeleryDispatcher:
    """A dispatcher that sends Celery tasks over Redis or Valkey; the URL may hold a password."""

    def __init__(self, broker_url: str) -> None:
        self._celery = Celery("paintbox", broker=broker_url, set_as_current=False)
        timeouts = {"socket_timeout": _TIMEOUT_SECONDS, "socket_connect_timeout": _TIMEOUT_SECONDS}
        self._celery.conf.update(
            task_ignore_result=True,
            task_publish_retry=False,
            broker_connection_retry=False,
            broker_connection_timeout=_TIMEOUT_SECONDS,
            broker_transport_options={**timeouts, "max_retries": 0, "retry_on_timeout": False},
        )
        self._redis = redis.Redis.from_url(broker_url, **timeouts)

    def dispatch(self, job_id: str) -> None:
        """Tell a worker that the job is queued; an unreachable broker is logged, not raised."""
        try:
            self._celery.send_task(TASK_NAME, args=[job_id], queue=QUEUE_NAME, retry=False, ignore_result=True)
        except (OperationalError, redis.RedisError, OSError) as error:
            _log.warning("job not dispatched, the reaper will dispatch it", job_id=job_id, error=type(error).__name__)

    def depth(self) -> int | None:
        """Return the number of unread messages, or None if the broker cannot be reached."""
        try:
            return int(self._redis.llen(QUEUE_NAME))
        except (redis.RedisError, OSError):
            return None

    def close(self) -> None:
        """Close the connections."""
        self._celery.close()
        self._redis.close()


class MemoryDispatcher:
    """A dispatcher without a broker: keeps the ids of the dispatched jobs until they are taken."""

    def __init__(self) -> None:
        self.dispatched: list[str] = []

    def dispatch(self, job_id: str) -> None:
        """Store the id."""
        self.dispatched.append(job_id)

    def depth(self) -> int | None:
        """Return the number of ids that were not taken."""
        return len(self.dispatched)

    def close(self) -> None:
        """Do nothing."""


class TracedDispatcher:
    """Records a span for each dispatch by another dispatcher."""

    def __init__(self, dispatcher: Dispatcher, tracing: Tracing) -> None:
        self._dispatcher = dispatcher
        self._tracing = tracing

    def dispatch(self, job_id: str) -> None:
        """Tell a worker that the job is queued."""
        attributes = {"messaging.system": "celery", "messaging.destination.name": QUEUE_NAME, "paintbox.job.id": job_id}
        with self._tracing.span("dispatch job", kind="producer", attributes=attributes):
            self._dispatcher.dispatch(job_id)

    def depth(self) -> int | None:
        """Return the number of unread messages, or None if the queue cannot be reached."""
        return self._dispatcher.depth()

    def close(self) -> None:
        """Close the connections."""
        self._dispatcher.close()


def open_dispatcher(broker_url: str, given: Dispatcher | None, tracing: Tracing) -> Dispatcher:
    """Return the given dispatcher, or one on the broker; traced if tracing is on."""
    dispatcher = given or CeleryDispatcher(broker_url)
    return TracedDispatcher(dispatcher, tracing) if tracing.is_on else dispatcher


DispatcherDep = Annotated[Dispatcher, provided(Dispatcher)]
