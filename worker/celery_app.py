"""The Celery application. Celery only carries messages: the jobs are in the database.

Messages are acknowledged early and carry a job id; losing one loses nothing, because the reaper dispatches the
job again and idle workers poll the database. So nothing here depends on the broker's visibility timeout, result
backend or redelivery. Timeouts detect a connection that a load balancer or NAT dropped silently.
"""

from __future__ import annotations

import os

from celery import Celery

from contract.jobs import QUEUE_NAME
from worker import inspecting, logs, preparing, stopping  # noqa: F401 - they connect themselves to Celery's signals
from worker.polling import PollerStep
from worker.settings import WorkerSettings

_BROKER_TIMEOUTS = {
    "socket_timeout": 10.0,
    "socket_connect_timeout": 5.0,
    "socket_keepalive": True,
    "health_check_interval": 10,
}


def build_celery(settings: WorkerSettings, tasks: str = "worker.tasks") -> Celery:
    """Return the application, not yet connected, that consumes dispatch messages; `tasks` registers the one task."""
    celery = Celery("paintbox", broker=settings.broker_url.get_secret_value(), include=[tasks])
    celery.conf.update(
        accept_content=["json"],
        task_default_queue=QUEUE_NAME,
        task_ignore_result=True,
        task_acks_late=False,
        task_publish_retry=False,
        worker_pool="worker.pool:SupervisorPool",
        worker_concurrency=1,  # one device, one job
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=5.0,
        broker_transport_options=_BROKER_TIMEOUTS,
    )
    celery.steps["worker"].add(PollerStep)
    return celery


def consume(celery: Celery, log_level: str, name: str = "") -> None:
    """Consume one message at a time until told to stop.

    Args:
        celery: The application.
        log_level: Lowest level that is logged.
        name: Distinguishes the workers of one machine; empty: the process id.
    """
    silent = ("--without-gossip", "--without-mingle")  # workers have nothing to tell each other
    hostname = f"{name or f'worker-{os.getpid()}'}@%h"
    celery.worker_main(["worker", f"--hostname={hostname}", f"--loglevel={log_level}", *silent])


celery_app = build_celery(WorkerSettings.load())
