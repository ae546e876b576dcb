"""Jobs: their kinds, states and priorities, and the names under which they go to the broker."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Literal

TASK_NAME = "paintbox.run_job"
QUEUE_NAME = "paintbox.jobs"
MAX_ATTEMPTS = 3


class JobStatus(StrEnum):
    """Where a job is in its life: `queued → running → succeeded | failed | cancelled`."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class JobKind(StrEnum):
    """What a job does.

    `ingest` prepares a data set, `patch` creates a version, `finetune` one of its task vectors, and `evaluate` measures
    versions.
    """

    INGEST = "ingest"
    PATCH = "patch"
    FINETUNE = "finetune"
    EVALUATE = "evaluate"


class AttemptCause(StrEnum):
    """Why an attempt at a job ended. All but the last four leave the job to be tried again, as often as it may be."""

    TRAINER_EXITED = "trainer_exited"
    TRAINER_KILLED = "trainer_killed"
    TRAINER_STALLED = "trainer_stalled"
    LEASE_LAPSED = "lease_lapsed"
    WORKER_STOPPED = "worker_stopped"
    DISK_FULL = "disk_full"
    STORE_UNAVAILABLE = "store_unavailable"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUCCEEDED = "succeeded"


class DeliveryState(StrEnum):
    """A message about a finished job is `waiting` until it is `delivered` or, after many tries, `given_up`."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


PriorityName = Literal["low", "normal", "high"]
_PRIORITY_NAMES: tuple[PriorityName, ...] = ("low", "normal", "high")


class Priority(IntEnum):
    """Which of the waiting jobs is taken first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2

    @property
    def label(self) -> PriorityName:
        """Name in requests and responses."""
        return _PRIORITY_NAMES[self]
