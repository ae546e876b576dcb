"""The Celery application. Celery is the doorbell only: what there is to do stands in the database.

Messages are acknowledged early and carry a job id; losing one loses nothing, as the reaper rings again. So nothing
here depends on the broker's visibility timeout, result backend or redelivery.
"""

from __future__ import annotations

from celery import Celery

from registry.contract import QUEUE_NAME
from worker.settings import WorkerSettings


def build_celery(settings: WorkerSettings, tasks: str = "worker.tasks") -> Celery:
    """Return the application that consumes doorbell messages from the broker.

    Args:
        settings: Name the broker.
        tasks: Module that registers the one task.

    Returns:
        The application, not connected yet.
    """
    celery = Celery("paintbox", broker=settings.broker_url.get_secret_value(), include=[tasks])
    celery.conf.update(
        accept_content=["json"],
        task_default_queue=QUEUE_NAME,
        task_ignore_result=True,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
    )
    return celery


def consume(celery: Celery, log_level: str, name: str = "worker") -> None:
    """Take one message at a time until told to stop; `name` tells the workers of one machine apart."""
    silent = ("--without-gossip", "--without-mingle")  # workers have nothing to tell each other
    celery.worker_main(["worker", "--concurrency=1", f"--hostname={name}@%h", f"--loglevel={log_level}", *silent])


celery_app = build_celery(WorkerSettings.load())
