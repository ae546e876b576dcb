"""The one Celery task: thin, takes an id, hands over to the supervisor."""

from __future__ import annotations

from registry.contract import TASK_NAME
from worker.celery_app import celery_app
from worker.logs import set_up_logging
from worker.settings import WorkerSettings
from worker.stopping import is_stopping
from worker.supervisor import Supervisor


@celery_app.task(name=TASK_NAME)  # type: ignore[untyped-decorator]
def run_job(job_id: str) -> None:
    """Work on what waits; the job that the ring was for is among it, unless somebody else was quicker."""
    settings = WorkerSettings.load()
    set_up_logging(settings.log_level)
    Supervisor(settings, is_stopping=is_stopping).answer()
