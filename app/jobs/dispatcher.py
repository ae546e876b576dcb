"""The doorbell: telling a worker that a job waits. The message is only a hint, the truth stands in the database.

Ring after the job's row is committed, and mark it as rung in the same transaction. A ring that gets lost costs a few
seconds: the reaper rings again.
"""

from __future__ import annotations

from typing import Annotated, Protocol

import redis
import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from app.http.dependencies import provided
from contract.jobs import QUEUE_NAME, TASK_NAME

_TIMEOUT_SECONDS = 2.0
_log = structlog.get_logger(__name__)


class Doorbell(Protocol):
    """What the rest of the code asks of a message queue."""

    def ring(self, job_id: str) -> None:
        """Tell some worker that the job waits; never fails and never waits long."""

    def depth(self) -> int | None:
        """Return how many messages wait for a worker, or None if the queue cannot be reached."""

    def close(self) -> None:
        """Close the connections."""


class CeleryDoorbell:
    """A doorbell that sends Celery tasks over Redis or Valkey.

    Args:
        broker_url: Where the broker is; may hold a password.
    """

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

    def ring(self, job_id: str) -> None:
        """Tell some worker that the job waits; a broker that cannot be reached is logged, not raised."""
        try:
            self._celery.send_task(TASK_NAME, args=[job_id], queue=QUEUE_NAME, retry=False, ignore_result=True)
        except (OperationalError, redis.RedisError, OSError) as error:
            _log.warning("job not dispatched, the reaper will dispatch it", job_id=job_id, error=type(error).__name__)

    def depth(self) -> int | None:
        """Return how many messages wait for a worker, or None if the broker cannot be reached."""
        try:
            return int(self._redis.llen(QUEUE_NAME))
        except (redis.RedisError, OSError):
            return None

    def close(self) -> None:
        """Close the connections."""
        self._celery.close()
        self._redis.close()


class MemoryDoorbell:
    """A doorbell without a broker: it keeps the ids it was rung for, until somebody takes them."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, job_id: str) -> None:
        """Keep the id."""
        self.rung.append(job_id)

    def depth(self) -> int | None:
        """Return how many ids nobody has taken."""
        return len(self.rung)

    def close(self) -> None:
        """Do nothing."""


DispatcherDep = Annotated[Doorbell, provided(Doorbell)]
