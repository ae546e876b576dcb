"""`python -m worker.trainer JOB_ID TOKEN`: runs one job in a process of its own, then exits.

Without arguments it imports what jobs need, waits for a job on standard input (`worker.standby`), and does that one.

It owns the device, so that exiting gives all memory back. It talks to its supervisor over its standard output, keeps
everything else that is printed on standard error, and exits when its standard input ends: the supervisor is gone.
"""

from __future__ import annotations

import gc
import io
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from queue import Queue
from typing import NoReturn

import structlog

from contract.jobs import JobKind
from paint_core.runtime.allocator import keep_freed_memory
from registry.blob_stores import open_blobs
from registry.database import Database
from registry.errors import LeaseLostError
from registry.jobs import Jobs
from registry.leases import Lease
from worker.faults import describe_fault
from worker.job_context import JobContext
from worker.logs import set_up_logging
from worker.messages import Channel, Failure, Setback
from worker.settings import WorkerSettings
from worker.vitals import be_ended_first, limit_memory, tell_signs_of_work

ORPHANED = 70
FAILED = 1
log = structlog.get_logger()

# By name, so that an ingest job does not wait seconds for torch to be imported.
STEPS: Mapping[JobKind, str] = {
    JobKind.INGEST: "worker.steps.ingest",
    JobKind.PATCH: "worker.steps.patch",
    JobKind.FINETUNE: "worker.steps.finetune",
    JobKind.EVALUATE: "worker.steps.evaluate",
}


def main(job_id: str, token: int, steps: Mapping[JobKind, str] = STEPS) -> int:
    """Do the job's work and return the exit status: 0, or 1 if it cannot be done, which the supervisor was told.

    Args:
        job_id: The job.
        token: Of the lease that its worker holds.
        steps: Module of the function for each kind of job; the function has the kind's name.
    """
    channel = _take_standard_output()
    be_ended_first()
    keep_freed_memory()
    threading.Thread(target=_exit_with_supervisor, daemon=True).start()
    return _work(Lease(job_id, token), channel, steps)


def wait_for_work(steps: Mapping[JobKind, str] = STEPS) -> int:
    """Import what jobs need, wait for a job, then be its trainer; return the exit status as `main` does."""
    channel = _take_standard_output()
    be_ended_first()
    keep_freed_memory()
    assigned: Queue[bytes] = Queue()
    threading.Thread(target=_listen, args=(assigned,), daemon=True).start()
    for kind in (JobKind.PATCH, JobKind.FINETUNE, JobKind.EVALUATE):
        _load_step(steps, kind)
    job = json.loads(assigned.get())
    output = os.open(job["output"], os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    return _work(Lease(job["job_id"], job["token"]), channel, steps)


def _work(lease: Lease, channel: Channel, steps: Mapping[JobKind, str]) -> int:
    tell_signs_of_work(channel)
    settings = WorkerSettings.load()
    set_up_logging(settings.log_level)
    structlog.contextvars.bind_contextvars(job_id=lease.job_id, token=lease.token)
    fault = _attempt(steps, lease, channel, settings)
    if fault is None:
        return 0
    channel.send(fault)
    return FAILED


def _attempt(
    steps: Mapping[JobKind, str], lease: Lease, channel: Channel, settings: WorkerSettings
) -> Failure | Setback | None:
    """Run the job's step: the one place where all errors of a job are caught, logged and given a code."""
    kind = JobKind.PATCH
    try:
        context, kind = _prepare(lease, channel, settings)
        if kind is JobKind.INGEST:
            limit_memory(settings.ingest_memory_bytes)
        _load_step(steps, kind)(context)
        context.database.close()
    except LeaseLostError as error:
        log.warning("lease lost; the result was rejected", token=error.token)
    except Exception as error:
        log.exception("job failed")
        return describe_fault(error, kind)
    return None


def _load_step(steps: Mapping[JobKind, str], kind: JobKind) -> Callable[[JobContext], None]:
    """Import the function of a kind of job, and freeze the garbage collector's objects."""
    gc.disable()
    try:
        step: Callable[[JobContext], None] = getattr(import_module(steps[kind]), kind)
    finally:
        gc.freeze()
        gc.enable()
    return step


def _prepare(lease: Lease, channel: Channel, settings: WorkerSettings) -> tuple[JobContext, JobKind]:
    """Return the context of the job, and the job's kind."""
    database = Database(settings.resolved_database_url)
    with database.read() as session:
        job, request_id = Jobs(session).get(lease.job_id), Jobs(session).request_id(lease.job_id)
    if request_id is not None:
        structlog.contextvars.bind_contextvars(request_id=request_id)
    context = JobContext(
        subject_id=job.subject_id,
        checkpoint=job.checkpoint or {},
        lease=lease,
        database=database,
        blobs=open_blobs(settings),
        channel=channel,
        settings=settings,
        part=job.part,
    )
    return context, JobKind(job.kind)


def _take_standard_output() -> Channel:
    """Return a channel on standard output, and redirect what libraries print to standard error."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), line_buffering=True)
    return Channel(pipe)


def _listen(assigned: Queue[bytes]) -> None:
    """Pass on the one line that comes on standard input; exit when it ends."""
    line = bytearray()
    while not line.endswith(b"\n"):
        if not (byte := os.read(0, 1)):
            os._exit(ORPHANED)
        line += byte
    assigned.put(bytes(line))
    _exit_with_supervisor()


def _exit_with_supervisor() -> None:
    """Exit the whole process when standard input ends."""
    while os.read(0, 1):
        pass
    os._exit(ORPHANED)


def leave(status: int) -> NoReturn:
    """End the process immediately, without the seconds that the interpreter's clean-up takes."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main(sys.argv[1], int(sys.argv[2])) if sys.argv[1:] else wait_for_work())
