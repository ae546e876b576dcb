"""Settings of a worker process."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from contract.jobs import JobKind
from registry.leases import LEASE_SECONDS
from registry.settings import StorageSettings

ALL_KINDS = tuple(JobKind)


class WorkerSettings(StorageSettings):
    """Settings of the worker, each read from `PAINTBOX_` plus its name in capitals."""

    worker_name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,64}$")
    """Name of a worker before the `@`, for Celery's commands; by default `worker-` and the process id."""

    worker_kinds: Annotated[tuple[JobKind, ...], NoDecode] = Field(default=ALL_KINDS, min_length=1)
    """Kinds of jobs that a worker runs, such as `ingest` or `patch,finetune`, by default all: see
    docs/operations.md#workers."""

    standby_trainer: bool = True
    """Whether an idle worker keeps a trainer that has imported PyTorch and waits, so that a patch starts in half a
    second instead of several; it takes about 0.5 GB of memory."""

    poll_seconds: float = Field(default=30.0, gt=0)
    """How often an idle worker polls the database when the broker sends nothing."""

    lease_seconds: float = Field(default=LEASE_SECONDS, gt=0)
    """How long a worker keeps a job without a heartbeat before another worker may take it."""

    heartbeat_seconds: float = Field(default=1.0, gt=0)
    """How often a worker renews its lease and checks for cancellation."""

    checkpoint_seconds: float = Field(default=20.0, ge=0)
    """Minimum time between two checkpoints of a fine-tuning; 0: after every step."""

    ingest_limit_seconds: float = Field(default=3600.0, gt=0)
    """Time limit of an ingest job; it is then stopped and fails."""

    patch_limit_seconds: float = Field(default=48 * 3600.0, gt=0)
    """Time limit of a patch job; it is then stopped and fails."""

    stall_limit_seconds: float = Field(default=900.0, gt=0)
    """A trainer that shows no progress, CPU time or I/O for this long is stopped, and the job is retried."""

    ingest_memory_bytes: int = Field(default=8 << 30, ge=0)
    """Memory limit of the trainer of an ingest job (Linux); 0: no limit."""

    max_image_pixels: int = Field(default=50_000_000, gt=0)
    """Larger images are rejected at ingest and fail a patch, with the name of the file; for requests the limit is
    `PAINTBOX_MAX_SERVED_PIXELS`."""

    decoded_memory_bytes: int = Field(default=2 << 30, ge=0)
    """A split whose decoded images are larger is stored in a file under `scratch/` instead of in memory."""

    feature_cache_bytes: int = Field(default=1 << 30, ge=0)
    """Size of the cache of features of unpatched bases under `cache/`; 0 disables it."""

    @field_validator("worker_kinds", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Accept `ingest,patch` as well as `["ingest", "patch"]`."""
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value) if value.strip().startswith("[") else [each.strip() for each in value.split(",")]
        except json.JSONDecodeError as error:
            raise PydanticCustomError(
                "worker_kinds", "Use kinds separated by commas, such as patch,finetune"
            ) from error

    @property
    def takes_all_kinds(self) -> bool:
        """Whether any job is one for this worker."""
        return set(ALL_KINDS) <= set(self.worker_kinds)
