"""One attempt at a job, seen from outside: follows the trainer until it exits or must be ended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

import structlog
from sqlalchemy.exc import DBAPIError

from contract.jobs import AttemptCause, JobKind, JobStatus
from registry.blobs import BlobStore
from registry.database import Database
from registry.errors import LeaseLostError, RegistryError
from registry.jobs import Jobs
from registry.leases import Lease
from worker.faults import DATABASE_AWAY
from worker.messages import Alive, Checkpoint, Failure, Message, MessageError, Note, Progress, Setback
from worker.process import TrainerProcess
from worker.settings import WorkerSettings

MOST_NOTES = 1_000
"""Maximum number of notes of an attempt that become events; the last event says that more were dropped."""

_POLL_SECONDS = 0.2
_FAREWELL_SECONDS = 10.0
log = structlog.get_logger()


@dataclass(frozen=True)
class Ended:
    """The attempt was ended, or ended by itself, and counts; the job is tried again."""

    cause: AttemptCause
    reason: str


class Given(Enum):
    """Why the job is given up or given back although nothing went wrong."""

    CANCELLED = "cancelled"
    STOPPING = "stopping"


Verdict = Failure | Setback | Ended | Given | None


class Watch:
    """Stores what a trainer reports, renews the lease, and decides when the trainer must be stopped.

    While the database is unavailable, nothing more is read until the lease has expired: the trainer waits at its pipe,
    and none of its messages is lost.

    Args:
        database: Holds the job.
        blobs: Hold the training states of checkpoints.
        settings: Limits and intervals.
        lease: Proof that this worker holds the job.
        is_stopping: Whether the worker is shutting down.
        most_notes: Maximum number of notes that become events.
        on_stage: Called with the trainer's stage whenever it reports its progress.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        settings: WorkerSettings,
        lease: Lease,
        is_stopping: Callable[[], bool],
        most_notes: int = MOST_NOTES,
        on_stage: Callable[[str], object] = str,
    ) -> None:
        self._on_stage = on_stage
        self._database = database
        self._blobs = blobs
        self._settings = settings
        self._lease = lease
        self._is_stopping = is_stopping
        self._most_notes = most_notes
        with database.read() as session:
            job = Jobs(session).get(lease.job_id)
        is_ingest = job.kind == JobKind.INGEST
        self._limit_seconds = settings.ingest_limit_seconds if is_ingest else settings.patch_limit_seconds
        self._has_parent = job.parent_id is not None
        started = time.monotonic()
        self._deadline = started + self._limit_seconds
        self._held_until = started + settings.lease_seconds
        self._last_sign = started
        self._kill_at: float | None = None
        self._next_beat = 0.0
        self._unread: deque[Message] = deque()
        self._latest: Progress | None = None
        self._outcome: Failure | Setback | None = None
        self._heard = False
        self._num_notes = 0

    def follow(self, trainer: TrainerProcess) -> Verdict:
        """Return why the work cannot be done, why the trainer was stopped, or None if it exited by itself."""
        while True:
            try:
                self._listen(trainer)
            except MessageError as error:
                return Ended(AttemptCause.TRAINER_EXITED, f"the trainer sent an invalid message: {error}")
            if trainer.exited and not self._unread:
                self._write_progress()
                return self._outcome or (Given.STOPPING if self._kill_at is not None else None)
            if (verdict := self._over_limit() or self._stopped(trainer)) is not None:
                return verdict
            if time.monotonic() >= self._next_beat:
                self._next_beat = time.monotonic() + self._settings.heartbeat_seconds
                trainer.bound_log()
                if self._beat():
                    return Given.CANCELLED

    def _over_limit(self) -> Verdict:
        now, stall_limit = time.monotonic(), self._settings.stall_limit_seconds
        if now > self._deadline:
            return Failure("time_limit", f"The job ran longer than {self._limit_seconds:.0f} s and was stopped.")
        if now > self._last_sign + stall_limit:
            return Ended(AttemptCause.TRAINER_STALLED, f"the trainer showed no activity for {stall_limit:.0f} s")
        return None

    def _stopped(self, trainer: TrainerProcess) -> Verdict:
        """Ask the trainer to save a checkpoint once the worker stops; return that it must go if it takes too long."""
        if self._kill_at is None and self._is_stopping():
            self._kill_at = time.monotonic() + _FAREWELL_SECONDS
            trainer.ask_to_stop()
        return Given.STOPPING if self._kill_at is not None and time.monotonic() > self._kill_at else None

    def _listen(self, trainer: TrainerProcess) -> None:
        """Handle the trainer's messages in order; those that the database cannot take are kept."""
        if not self._unread:
            self._unread.extend(trainer.messages(_POLL_SECONDS))
        while self._unread:
            self._last_sign = time.monotonic()
            try:
                self._take(self._unread[0])
            except DATABASE_AWAY as error:
                self._wait_for_database("message not stored", error)
                return
            self._unread.popleft()

    def _take(self, message: Message) -> None:
        self._heard = self._heard or not isinstance(message, Alive)
        try:
            self._act_on(message)
        except LeaseLostError:
            if not self._registered():
                raise
            # the trainer has ended the job since it said that
        except DBAPIError as error:
            if isinstance(error, DATABASE_AWAY):
                raise
            log.error("message rejected by the database", kind=type(message).__name__, error=type(error.orig).__name__)
            self._outcome = Failure(
                "internal_error", "A message of the trainer cannot be stored. See the log of the job."
            )

    def _act_on(self, message: Message) -> None:
        match message:
            case Progress():
                self._latest = message  # written with the next heartbeat
                self._on_stage(message.stage)
            case Checkpoint(value):
                self._save_checkpoint(value)
            case Note():
                self._write_note(message)
            case Failure() | Setback():
                self._outcome = message
            case Alive():
                pass

    def _write_note(self, note: Note) -> None:
        if self._num_notes > self._most_notes:
            return
        if self._num_notes == self._most_notes:
            note = Note("further events of this attempt are omitted", "warn")
        with self._database.write() as session:
            Jobs(session).note(self._lease, note.message, note.level, note.data)
        self._num_notes += 1

    def _save_checkpoint(self, value: dict[str, object]) -> None:
        """Record the checkpoint, then free the training state of the one before it."""
        with self._database.write() as session:
            jobs = Jobs(session)
            before = (jobs.get(self._lease.job_id).checkpoint or {}).get("state_sha256")
            jobs.save_checkpoint(self._lease, value)
        if before and before != value.get("state_sha256"):
            delete_quietly(self._blobs, before)

    def _beat(self) -> bool:
        """Renew the lease, write progress, and return whether a cancel was requested."""
        try:
            cancel = self._renew()
            self._write_progress()
        except DATABASE_AWAY as error:
            self._wait_for_database("heartbeat failed", error)
            return False
        return cancel

    def _renew(self) -> bool:
        try:
            with self._database.write() as session:
                cancel = Jobs(session).heartbeat(self._lease, self._settings.lease_seconds, heard=self._heard)
        except LeaseLostError:
            if self._registered():
                return False  # the trainer has ended the job and is about to exit
            raise
        self._heard = False
        self._held_until = time.monotonic() + self._settings.lease_seconds
        return cancel

    def _wait_for_database(self, what: str, error: Exception) -> None:
        """Wait a moment; raise LeaseLostError once others may take the job."""
        log.warning(what, error=type(getattr(error, "orig", None) or error).__name__)
        if time.monotonic() > self._held_until:
            raise LeaseLostError(self._lease.job_id, self._lease.token) from error
        time.sleep(_POLL_SECONDS)

    def _registered(self) -> bool:
        """Return whether our own trainer has ended the job well."""
        with self._database.read() as session:
            job = Jobs(session).get(self._lease.job_id)
        return job.status == JobStatus.SUCCEEDED and job.lease_token == self._lease.token

    def _write_progress(self) -> None:
        if self._latest is None:
            return
        latest = self._latest
        with suppress(LeaseLostError), self._database.write() as session:  # its events are complete
            Jobs(session).report(
                self._lease, stage=latest.stage, progress=latest.progress, eta_seconds=latest.eta_seconds
            )
        self._latest = None
        if self._has_parent:
            with self._database.write() as session:
                Jobs(session).share_progress(self._lease.job_id)


def delete_quietly(blobs: BlobStore, sha256: str) -> None:
    """Delete an unreferenced blob; if that fails, it is left over."""
    try:
        blobs.delete(sha256)
    except (OSError, RegistryError) as error:
        log.warning("blob not deleted", sha256=sha256, error=type(error).__name__)
