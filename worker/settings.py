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
    """Settings of the worker, each read from `PAINTBOX_` plus its name in capitals; see docs/operations.md."""

    worker_name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,64}$")
    worker_kinds: Annotated[tuple[JobKind, ...], NoDecode] = Field(default=ALL_KINDS, min_length=1)
    standby_trainer: bool = True
    poll_seconds: float = Field(default=30.0, gt=0)
    lease_seconds: float = Field(default=LEASE_SECONDS, gt=0)
    heartbeat_seconds: float = Field(default=1.0, gt=0)
    checkpoint_seconds: float = Field(default=20.0, ge=0)
    ingest_limit_seconds: float = Field(default=3600.0, gt=0)
    patch_limit_seconds: float = Field(default=48 * 3600.0, gt=0)
    stall_limit_seconds: float = Field(default=900.0, gt=0)
    ingest_memory_bytes: int = Field(default=8 << 30, ge=0)
    max_image_pixels: int = Field(default=50_000_000, gt=0)
    decoded_memory_bytes: int = Field(default=2 << 30, ge=0)
    feature_cache_bytes: int = Field(default=1 << 30, ge=0)

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
