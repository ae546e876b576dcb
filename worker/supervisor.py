"""Holds a job by a lease and watches over the trainer process that works on it.

The trainer is a fresh Python in a process group of its own: it may use DataLoader workers and CUDA, which Celery's
daemonic pool processes may not, and when it exits all its memory is free again. The supervisor renews the lease,
writes the trainer's progress into the database under the lease's token, and ends the trainer on cancel, time limit,
shutdown or a lost lease. A trainer that dies is started again; it resumes from the checkpoint that the database names.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from sqlalchemy.exc import OperationalError

from registry.blob_stores import open_blobs
from registry.blobs import BlobStore
from registry.contract import AttemptCause, JobKind, JobStatus
from registry.database import Database
from registry.errors import LeaseLostError
from registry.jobs import Jobs, Lease
from registry.leftovers import hold
from worker.messages import Checkpoint, Failure, Message, Note, Progress
from worker.process import TRAINER_COMMAND, TrainerProcess
from worker.run import remove_scratch
from worker.settings import WorkerSettings

_POLL_SECONDS = 0.2
log = structlog.get_logger()


class Supervisor:
    """Works on jobs, one at a time.

    Args:
        settings: The worker's settings; the trainer gets them through its environment.
        is_stopping: Tells whether the worker is shutting down.
        trainer: Program that does the work; tests give one that does it without arithmetic.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        is_stopping: Callable[[], bool] = lambda: False,
        trainer: tuple[str, ...] = TRAINER_COMMAND,
    ) -> None:
        self._settings = settings
        self._is_stopping = is_stopping
        self._trainer = trainer
        self._database = Database(settings.resolved_database_url)
        self._blobs: BlobStore = open_blobs(settings)
        self._owner = f"{socket.gethostname()}:{os.getpid()}"

    def answer(self) -> None:
        """Work on whatever waits, the best first, until nothing does.

        A ring tells that something waits, not what: the queue's order is that of the rings, the right one is in the
        database. So one ring may be answered with many jobs, and later ones find nothing to do. Whoever ends the last
        part of a job finds that job among what waits.
        """
        self._work(lambda jobs: jobs.lease_best(self._owner, self._settings.lease_seconds))

    def run(self, job_id: str) -> None:
        """Work on one job until it has ended, was given back, or turns out to be held by somebody else."""
        self._work(lambda jobs: jobs.lease(job_id, self._owner, self._settings.lease_seconds))

    def _work(self, take: Callable[[Jobs], Lease | None]) -> None:
        try:
            with hold(self._settings):
                while not self._is_stopping() and (lease := self._lease(take)):
                    with structlog.contextvars.bound_contextvars(job_id=lease.job_id):
                        self._attempt(lease)
        finally:
            self._database.close()

    def _lease(self, take: Callable[[Jobs], Lease | None]) -> Lease | None:
        with self._database.write() as session:
            return take(Jobs(session))

    def _attempt(self, lease: Lease) -> None:
        log.info("trainer starts", token=lease.token)
        try:
            with TrainerProcess(self._settings, lease, self._trainer) as trainer:
                watch = _Watch(self._database, self._blobs, self._settings, lease, self._is_stopping)
                verdict = watch.follow(trainer)
            remove_scratch(self._settings.scratch_dir, lease.job_id)  # a trainer that was killed has left its own
            self._settle(lease, verdict, trainer)
        except LeaseLostError as error:
            log.warning("lease lost", token=error.token)
        finally:
            self._forget_checkpoint(lease.job_id)

    def _settle(self, lease: Lease, verdict: _Verdict, trainer: TrainerProcess) -> None:
        """Write how the attempt ended; a trainer that registered its result has already ended the job itself."""
        with self._database.write() as session:
            jobs = Jobs(session)
            if JobStatus(jobs.get(lease.job_id).status).ended:
                return
            if verdict is _CANCELLED:
                jobs.cancel(lease)
            elif verdict is _STOPPING:
                jobs.release(lease, "the worker is shutting down", counts_as_attempt=False)
            elif isinstance(verdict, Failure):
                jobs.fail(lease, verdict.code, verdict.detail, trainer.log_tail())
            else:
                cause, how = _describe(trainer.exit_status)
                reason = f"the trainer ended with {how} in stage {jobs.get(lease.job_id).stage}"
                log.error("trainer died", reason=reason)
                jobs.release(lease, reason, counts_as_attempt=True, cause=cause, log_tail=trainer.log_tail())

    def _forget_checkpoint(self, job_id: str) -> None:
        """Free the checkpoint's training state once the job has ended."""
        with self._database.read() as session:
            job = Jobs(session).get(job_id)
            state = (job.checkpoint or {}).get("state_sha256")
        if state and JobStatus(job.status).ended:
            self._blobs.delete(state)


_Verdict = Failure | str | None
_CANCELLED = "cancelled"
_STOPPING = "stopping"


class _Watch:
    """One attempt, seen from outside: follows the trainer until it exits or must be ended."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        settings: WorkerSettings,
        lease: Lease,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._settings = settings
        self._lease = lease
        self._is_stopping = is_stopping
        with database.read() as session:
            job = Jobs(session).get(lease.job_id)
        is_ingest = job.kind == JobKind.INGEST
        self._limit_seconds = settings.ingest_limit_seconds if is_ingest else settings.patch_limit_seconds
        self._has_parent = job.parent_id is not None
        self._held_until = time.monotonic() + settings.lease_seconds
        self._latest: Progress | None = None

    def follow(self, trainer: TrainerProcess) -> _Verdict:
        """Return a failure, why the trainer was ended, or None if it exited by itself.

        Args:
            trainer: The running attempt.

        Returns:
            What the attempt ended with, so far as it is known here.

        Raises:
            LeaseLostError: Somebody else holds the job now.
        """
        deadline = time.monotonic() + self._limit_seconds
        next_beat = 0.0
        failure: Failure | None = None
        while True:
            for message in trainer.messages(_POLL_SECONDS):
                failure = self._take(message) or failure
            if trainer.exited:
                self._write_progress()
                return failure
            if time.monotonic() > deadline:
                return Failure("time_limit", f"The job ran longer than {self._limit_seconds:.0f} s and was stopped.")
            if self._is_stopping():
                return _STOPPING
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._settings.heartbeat_seconds
                if self._beat():
                    return _CANCELLED

    def _take(self, message: Message) -> Failure | None:
        try:
            return self._act_on(message)
        except LeaseLostError:
            if not self._registered():
                raise
            return None  # the trainer has ended the job since it said that

    def _act_on(self, message: Message) -> Failure | None:
        match message:
            case Progress():
                self._latest = message  # written with the next heartbeat
            case Checkpoint(value):
                self._save_checkpoint(value)
            case Note(text, level, data):
                with self._database.write() as session:
                    Jobs(session).note(self._lease, text, level, data)
            case Failure():
                return message
        return None

    def _save_checkpoint(self, value: dict[str, object]) -> None:
        """Record the checkpoint, then free the training state of the one before it."""
        with self._database.write() as session:
            jobs = Jobs(session)
            before = (jobs.get(self._lease.job_id).checkpoint or {}).get("state_sha256")
            jobs.save_checkpoint(self._lease, value)
        if before and before != value.get("state_sha256"):
            self._blobs.delete(before)

    def _beat(self) -> bool:
        """Renew the lease, write progress, and return whether a cancel was asked for."""
        try:
            with self._database.write() as session:
                cancel = Jobs(session).heartbeat(self._lease, self._settings.lease_seconds)
            self._write_progress()
        except LeaseLostError:
            if self._registered():
                return False  # the trainer has ended the job and is about to exit
            raise
        except OperationalError as error:
            log.warning("heartbeat failed", error=str(error.orig))
            if time.monotonic() > self._held_until:  # others may take the job from now on
                raise LeaseLostError(self._lease.job_id, self._lease.token) from error
            return False
        self._held_until = time.monotonic() + self._settings.lease_seconds
        return cancel

    def _registered(self) -> bool:
        """Return whether our own trainer has ended the job well."""
        with self._database.read() as session:
            job = Jobs(session).get(self._lease.job_id)
        return job.status == JobStatus.SUCCEEDED and job.lease_token == self._lease.token

    def _write_progress(self) -> None:
        if self._latest is None:
            return
        latest, self._latest = self._latest, None
        with suppress(LeaseLostError), self._database.write() as session:  # a finished job keeps its last word
            Jobs(session).report(
                self._lease, stage=latest.stage, progress=latest.progress, eta_seconds=latest.eta_seconds
            )
        if self._has_parent:
            with self._database.write() as session:
                Jobs(session).share_progress(self._lease.job_id)


def _describe(exit_status: int) -> tuple[AttemptCause, str]:
    if exit_status >= 0:
        return AttemptCause.TRAINER_EXITED, f"exit status {exit_status}"
    hint = ", which the system sends when memory runs out," if exit_status == -signal.SIGKILL else ""
    return AttemptCause.TRAINER_KILLED, f"signal {-exit_status} ({signal.Signals(-exit_status).name}){hint}"
