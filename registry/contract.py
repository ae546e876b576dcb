"""What the edges agree on: names on the wire and the words of a job's life."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated, Literal

from registry.bodies import Matches

TASK_NAME = "paintbox.run_job"
QUEUE_NAME = "paintbox.jobs"
ACTIVE_ALIAS = "active"
CANARY_ALIAS = "canary"
SHADOW_ALIAS = "shadow"
MAX_ATTEMPTS = 3

Tag = Annotated[
    str,
    Matches(
        r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$",
        "is not a tag: these have letters, digits and . _ : / -, at most 64, and begin with a letter or digit",
    ),
]
"""A word that people find a version by."""


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
    """What a job does: `ingest` makes a data set ready, `patch` makes a version, `finetune` one of its task vectors."""

    INGEST = "ingest"
    PATCH = "patch"
    FINETUNE = "finetune"


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
        """How requests and answers call it."""
        return _PRIORITY_NAMES[self]


class DatasetState(StrEnum):
    """A data set is `ingesting` until its job ends, then `ready` for good, or `failed`."""

    INGESTING = "ingesting"
    READY = "ready"
    FAILED = "failed"


class DatasetKind(StrEnum):
    """What a data set is for: `labelled` images make a task, those of a `pool` are anchors."""

    LABELLED = "labelled"
    POOL = "pool"


class Scope(StrEnum):
    """What a key allows. Only `admin` includes others: all of them."""

    READ = "read"
    CLASSIFY = "classify"
    WRITE = "write"
    ADMIN = "admin"
