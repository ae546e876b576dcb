"""`python -m worker.trainer JOB_ID TOKEN`: does the work of one job in a process of its own, then exits.

It owns the device, so that exiting gives all memory back. It talks to its supervisor over its standard output, keeps
everything else that is printed on standard error, and exits when its standard input ends: the supervisor is gone.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module

import structlog

from paint_core.allocator import keep_freed_memory
from paint_core.errors import PaintCoreError
from registry.blob_stores import open_blobs
from registry.contract import JobKind
from registry.database import Database
from registry.errors import LeaseLostError, RegistryError
from registry.jobs import Jobs, Lease
from worker.logs import set_up_logging
from worker.messages import Channel, Failure
from worker.run import Run
from worker.settings import WorkerSettings

ORPHANED = 70
FAILED = 1
log = structlog.get_logger()

# By name, so that an ingest job does not wait seconds for torch to be imported.
STEPS: Mapping[JobKind, str] = {JobKind.INGEST: "worker.steps.ingest", JobKind.PATCH: "worker.steps.patch"}


def main(job_id: str, token: int, steps: Mapping[JobKind, str] = STEPS) -> int:
    """Do the job's work and return the exit status.

    Args:
        job_id: The job.
        token: Of the lease that its worker holds.
        steps: Module of the function that does a kind of job; the function has the kind's name.

    Returns:
        0, or 1 if the work cannot be done, of which the supervisor has been told.
    """
    channel = _take_standard_output()
    keep_freed_memory()
    threading.Thread(target=_exit_with_supervisor, daemon=True).start()
    settings = WorkerSettings.load()
    set_up_logging(settings.log_level)
    structlog.contextvars.bind_contextvars(job_id=job_id, token=token)
    database = Database(settings.resolved_database_url)
    lease = Lease(job_id, token)
    with database.read() as session:
        job = Jobs(session).get(job_id)
    run = Run(
        subject_id=job.subject_id,
        checkpoint=job.checkpoint or {},
        lease=lease,
        database=database,
        blobs=open_blobs(settings),
        channel=channel,
        settings=settings,
    )
    failure = _attempt(steps, JobKind(job.kind), run)
    database.close()
    if failure is None:
        return 0
    channel.send(failure)
    return FAILED


def _attempt(steps: Mapping[JobKind, str], kind: JobKind, run: Run) -> Failure | None:
    """Run the job's step; the one place where every error of a job is caught, logged and given a code."""
    try:
        step: Callable[[Run], None] = getattr(import_module(steps[kind]), kind)
        step(run)
    except LeaseLostError as error:
        log.warning("lease lost; the result was refused", token=error.token)
    except (PaintCoreError, RegistryError) as error:
        log.exception("job failed")
        return Failure(error.code, str(error))
    except MemoryError:
        log.exception("job failed")
        return Failure("out_of_memory", "Memory ran out. Use a smaller batch_size or a machine with more memory.")
    except Exception as error:
        log.exception("job failed")
        if type(error).__name__ == "OutOfMemoryError":  # torch's; on a device
            return Failure("out_of_memory", "The device's memory ran out. Use a smaller batch_size.")
        return Failure("internal_error", f"{type(error).__name__}: {error}. The job's log has the details.")
    return None


def _take_standard_output() -> Channel:
    """Return a channel on the real standard output, and let what libraries print go to standard error."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), line_buffering=True)
    return Channel(pipe)


def _exit_with_supervisor() -> None:
    """Exit the whole process when standard input ends."""
    while os.read(0, 1):
        pass
    os._exit(ORPHANED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
