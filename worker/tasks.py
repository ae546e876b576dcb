"""The one Celery task: it takes an id and calls the supervisor."""

from __future__ import annotations

from functools import cache

import structlog
from celery.signals import worker_ready, worker_shutdown
from kombu.exceptions import OperationalError as BrokerError

from contract.jobs import TASK_NAME, JobKind
from pipeline.telemetry import open_tracing
from pipeline.tracing import Tracing
from registry.database import Database
from registry.errors import NotFoundError
from registry.jobs import Jobs
from worker.celery_app import celery_app
from worker.faults import DATABASE_AWAY
from worker.settings import WorkerSettings
from worker.standby import Standby
from worker.stopping import is_draining, is_stopping
from worker.supervisor import Supervisor

_MOST_HOPS = 8
_log = structlog.get_logger()
_standby = Standby()


@cache
def _tracing() -> Tracing:
    return open_tracing(WorkerSettings.load(), "paintbox-worker")


@worker_ready.connect  # type: ignore[untyped-decorator]
def _stand_by(**_: object) -> None:
    """Prepare a trainer for the first job."""
    _standby.prepare(WorkerSettings.load())


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _send_spans(**_: object) -> None:
    """Send the spans that were not sent yet."""
    _tracing().close()


@celery_app.task(name=TASK_NAME)  # type: ignore[untyped-decorator]
def run_job(job_id: str, hops: int = 0) -> None:
    """Run the waiting jobs; the dispatched job is one of them unless another worker has taken it."""
    settings = WorkerSettings.load()
    if not settings.takes_all_kinds and is_for_others(settings, job_id):
        return _pass_on(job_id, hops)
    Supervisor(
        settings, is_stopping=is_stopping, is_draining=is_draining, standby=_standby, tracing=_tracing()
    ).answer()


def is_for_others(settings: WorkerSettings, job_id: str) -> bool:
    """Return whether a job is of a kind that this worker does not take; False for an unknown job."""
    database = Database(settings.resolved_database_url)
    try:
        with database.read() as session:
            return JobKind(Jobs(session).get(job_id).kind) not in settings.worker_kinds
    except (NotFoundError, *DATABASE_AWAY):
        return False
    finally:
        database.close()


def _pass_on(job_id: str, hops: int) -> None:
    """Dispatch the job to the worker that has waited longest; after many tries it is left to the reaper."""
    if hops >= _MOST_HOPS:
        return
    try:
        run_job.apply_async(args=[job_id], kwargs={"hops": hops + 1})
    except (BrokerError, OSError) as error:
        _log.warning(
            "dispatch not handled, the reaper will dispatch the job again", job_id=job_id, error=type(error).__name__
        )
