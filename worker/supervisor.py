"""Holds a job by a lease and watches over the trainer process that works on it.

The trainer is a fresh Python in a process group of its own: it may use DataLoader workers and CUDA, and when it exits
all its memory is free again. The supervisor renews the lease, writes the trainer's progress into the database under the
lease's token, and ends the trainer on cancel, time limit, stall, shutdown or a lost lease (`worker.watch`). A trainer
that dies is started again; it resumes from the checkpoint that the database names.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable

import structlog

from contract.jobs import AttemptCause, JobKind, JobStatus
from pipeline.tracing import NO_TRACING, Attributes, Stages, Tracing
from registry.blob_stores import open_blobs
from registry.blobs import BlobStore
from registry.database import Database
from registry.errors import LeaseLostError
from registry.job_queries import JobQueries
from registry.jobs import Jobs
from registry.leases import Lease
from registry.leftovers import hold
from worker.faults import DATABASE_AWAY, MOST_SETBACKS, describe_fault, pause_seconds
from worker.in_work import in_work
from worker.job_context import remove_scratch
from worker.messages import Failure, Setback
from worker.process import TRAINER_COMMAND, Launch, TrainerProcess, launch_fresh
from worker.settings import WorkerSettings
from worker.standby import Standby
from worker.watch import Ended, Given, Verdict, Watch, delete_quietly

_SETTLE_SECONDS = 60.0
_SETTLE_PAUSE_SECONDS = 0.5
_FULL_BYTES = 64 << 20  # below this, a disk counts as full
log = structlog.get_logger()


class Supervisor:
    """Runs jobs, one at a time.

    Args:
        settings: The worker's settings, which the trainer gets through its environment.
        is_stopping: Whether the worker is shutting down.
        is_draining: Whether the worker is to finish its job and take no other.
        trainer: Program that does the work.
        launch: Starts that program.
        standby: Starts it for jobs that need PyTorch, in place of `launch`; a trainer is prepared after each job.
        tracing: Records a span for each attempt, its trainer and the trainer's stages.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        is_stopping: Callable[[], bool] = lambda: False,
        is_draining: Callable[[], bool] = lambda: False,
        trainer: tuple[str, ...] = TRAINER_COMMAND,
        launch: Launch = launch_fresh,
        standby: Standby | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._tracing = tracing
        self._settings = settings
        self._is_stopping = is_stopping
        self._is_draining = is_draining
        self._trainer = trainer
        self._launch = launch
        self._standby = standby
        self._database = Database(settings.resolved_database_url)
        self._blobs: BlobStore = open_blobs(settings)
        self._owner = f"{socket.gethostname()}:{os.getpid()}"

    def answer(self) -> None:
        """Run the waiting jobs, highest priority first, until none is left or the worker may take no more.

        A message says that a job waits, not which to take: the order of priority is in the database. So one message may
        lead to several jobs, and later messages find nothing to do. The worker that ends the last child of a job finds
        the parent among the waiting jobs.
        """
        seconds, kinds = self._settings.lease_seconds, self._settings.worker_kinds
        self._work(lambda jobs: jobs.lease_best(self._owner, seconds, kinds))

    def run(self, job_id: str) -> None:
        """Run one job until it has ended or was given back, or because another worker holds it."""
        self._work(lambda jobs: jobs.lease(job_id, self._owner, self._settings.lease_seconds))

    def _work(self, take: Callable[[Jobs], Lease | None]) -> None:
        try:
            with hold(self._settings):
                while not self._is_stopping() and not self._is_draining() and (lease := self._lease(take)):
                    with structlog.contextvars.bound_contextvars(job_id=lease.job_id), in_work(lease):
                        self._attempt(lease)
        except DATABASE_AWAY as error:  # a job that is held is free again once its lease has ended
            log.warning("database unavailable", error=type(getattr(error, "orig", None) or error).__name__)
        finally:
            self._database.close()
            if self._standby is not None and not self._is_stopping() and not self._is_draining():
                self._standby.prepare(self._settings)

    def _lease(self, take: Callable[[Jobs], Lease | None]) -> Lease | None:
        with self._database.write() as session:
            return take(Jobs(session))

    def _attempt(self, lease: Lease) -> None:
        log.info("trainer starts", token=lease.token)
        attributes: Attributes = {
            "paintbox.job.id": lease.job_id,
            "paintbox.job.kind": str(lease.kind),
            "paintbox.job.token": lease.token,
        }
        span = self._tracing.span(
            f"job {lease.kind}", parent=self._traceparent(lease.job_id), kind="consumer", attributes=attributes
        )
        with span as annotate:
            try:
                verdict, log_tail = self._train(lease)
                remove_scratch(self._settings.scratch_dir, lease.job_id)  # a trainer that was killed has left its own
                self._settle(lease, verdict, log_tail)
            except LeaseLostError as error:
                log.warning("lease lost", token=error.token)
            finally:
                annotate({"paintbox.job.status": self._forget_checkpoint(lease.job_id)})

    def _traceparent(self, job_id: str) -> str | None:
        if not self._tracing.is_on:
            return None
        with self._database.read() as session:
            return JobQueries(session).traceparent(job_id)

    def _train(self, lease: Lease) -> tuple[Verdict, str]:
        """Return how the attempt went, and the end of its trainer's output."""
        launch = self._launch
        if self._standby is not None and lease.kind is not JobKind.INGEST:  # an ingest job has its limit of memory
            launch = self._standby.launch
        try:
            with (
                self._tracing.span("trainer") as annotate,
                Stages(self._tracing) as stages,
                TrainerProcess(self._settings, lease, self._trainer, launch=launch) as trainer,
            ):
                watch = Watch(
                    self._database, self._blobs, self._settings, lease, self._is_stopping, on_stage=stages.enter
                )
                verdict = watch.follow(trainer)
                annotate({"paintbox.trainer.verdict": _name(verdict)})
            return verdict or self._explain(trainer.exit_status), trainer.log_tail()
        except OSError as error:  # the trainer could not be started
            log.exception("trainer failed to start")
            return describe_fault(error, JobKind.PATCH), ""

    def _explain(self, exit_status: int) -> Verdict:
        """Return what the exit of a trainer without a report means, if it has not done its work."""
        is_full = shutil.disk_usage(self._settings.scratch_dir).free < _FULL_BYTES
        if exit_status == -signal.SIGBUS and is_full:  # it wrote into a file that there is no room for
            return describe_fault(OSError(errno.ENOSPC, "no space left on device"), JobKind.PATCH)
        cause, how = _describe(exit_status)
        return Ended(cause, f"the trainer ended with {how}")

    def _settle(self, lease: Lease, verdict: Verdict, log_tail: str) -> None:
        """Write how the attempt ended, as soon as the database is available.

        `log_tail` was computed before, because nothing slow may hold the database. Raises `LeaseLostError` if another
        worker holds the job now.
        """
        deadline = time.monotonic() + max(_SETTLE_SECONDS, self._settings.lease_seconds)
        while True:
            try:
                with self._database.write() as session:
                    return _write_end(Jobs(session), lease, verdict, log_tail)
            except DATABASE_AWAY as error:
                if time.monotonic() > deadline or self._is_stopping():
                    raise
                log.warning("end of the attempt not recorded", error=type(getattr(error, "orig", error)).__name__)
                time.sleep(_SETTLE_PAUSE_SECONDS)

    def _forget_checkpoint(self, job_id: str) -> JobStatus:
        """Free the checkpoint's training state once the job has ended; return its status."""
        with self._database.read() as session:
            job = Jobs(session).get(job_id)
            state, status = (job.checkpoint or {}).get("state_sha256"), JobStatus(job.status)
        if state and status.ended:
            delete_quietly(self._blobs, state)
        return status


def _write_end(jobs: Jobs, lease: Lease, verdict: Verdict, log_tail: str) -> None:
    """Write how the attempt ended; a trainer that registered its result has already ended the job itself."""
    job = jobs.get(lease.job_id)
    if JobStatus(job.status).ended:
        return
    match verdict:
        case Given.CANCELLED:
            jobs.cancel(lease)
        case Given.STOPPING:
            jobs.release(lease, "the worker is shutting down", counts_as_attempt=False)
        case Failure(code, detail):
            jobs.fail(lease, code, detail, log_tail)
        case Setback(cause, detail) if job.num_setbacks >= MOST_SETBACKS:
            jobs.fail(lease, cause, f"{detail} It was tried {MOST_SETBACKS + 1} times.", log_tail)
        case Setback(cause, detail):
            log.warning("attempt released", cause=cause)
            pause, why = pause_seconds(job.num_setbacks), AttemptCause(cause)
            jobs.release(lease, detail, counts_as_attempt=False, cause=why, log_tail=log_tail, pause_seconds=pause)
        case Ended(cause, reason):
            told = f"{reason} in stage {job.stage}" if job.stage else f"{reason} before its first stage"
            log.error("trainer died", reason=told)
            jobs.release(lease, told, counts_as_attempt=True, cause=cause, log_tail=log_tail)


def _name(verdict: Verdict) -> str:
    if isinstance(verdict, Given):
        return verdict.value
    return "exited" if verdict is None else type(verdict).__name__.lower()


def _describe(exit_status: int) -> tuple[AttemptCause, str]:
    if exit_status >= 0:
        return AttemptCause.TRAINER_EXITED, f"exit status {exit_status}"
    hint = ", which the system sends when memory runs out," if exit_status == -signal.SIGKILL else ""
    return AttemptCause.TRAINER_KILLED, f"signal {-exit_status} ({signal.Signals(-exit_status).name}){hint}"
