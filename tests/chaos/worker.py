"""`python -m tests.chaos.worker NAME`: the real worker, whose trainers are those of this folder."""

import sys

from contract.jobs import TASK_NAME
from tests.chaos.stub import TRAINER
from worker.celery_app import build_celery, consume
from worker.logs import set_up_logging
from worker.settings import WorkerSettings
from worker.stopping import is_draining, is_stopping
from worker.supervisor import Supervisor

settings = WorkerSettings.load()
celery_app = build_celery(settings, tasks="tests.chaos.worker")


@celery_app.task(name=TASK_NAME)
def run_job(job_id: str, hops: int = 0) -> None:
    Supervisor(settings, is_stopping=is_stopping, is_draining=is_draining, trainer=TRAINER).answer()


if __name__ == "__main__":
    set_up_logging(settings.log_level)
    consume(celery_app, settings.log_level, sys.argv[1])
