"""What the edges agree on: names on the wire and the words of a job's life."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import StringConstraints

TASK_NAME = "paintbox.run_job"
QUEUE_NAME = "paintbox.jobs"
ACTIVE_ALIAS = "active"
CANARY_ALIAS = "canary"
SHADOW_ALIAS = "shadow"
MAX_ATTEMPTS = 3

Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$")]
"""A word that people find a version by."""

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


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


class DatasetState(StrEnum):
    """A data set is `ingesting` until its job ends, then `ready` for good, or `failed`."""

    INGESTING = "ingesting"
    READY = "ready"
    FAILED = "failed"


class Scope(StrEnum):
    """What a key allows. Only `admin` includes others: all of them."""

    READ = "read"
    CLASSIFY = "classify"
    WRITE = "write"
    ADMIN = "admin"
