"""The real worker under Celery's command, whose trainers stay until they are ended."""

import sys

from contract.jobs import TASK_NAME
from worker.celery_app import build_celery
from worker.settings import WorkerSettings
from worker.stopping import is_draining, is_stopping
from worker.supervisor import Supervisor

STAY = (sys.executable, "-c", "import time; time.sleep(600)")
app = build_celery(WorkerSettings.load(), tasks="tests.worker.staying_worker")


@app.task(name=TASK_NAME)
def run_job(job_id: str, hops: int = 0) -> None:
    Supervisor(WorkerSettings.load(), is_stopping=is_stopping, is_draining=is_draining, trainer=STAY).answer()
