"""Settings of a worker process."""

from __future__ import annotations

from pydantic import Field

from registry.jobs import LEASE_SECONDS
from registry.settings import StorageSettings


class WorkerSettings(StorageSettings):
    """What a worker needs beyond where state lives.

    Attributes:
        lease_seconds: How long a silent worker keeps a job before another may take it.
        heartbeat_seconds: How often the lease is renewed and a cancel is looked for.
        checkpoint_seconds: Least time between two checkpoints of a fine-tune; 0 saves after every step.
        ingest_limit_seconds: An ingest job that runs longer is stopped and fails.
        patch_limit_seconds: A patch job that runs longer is stopped and fails.
        max_image_pixels: Larger images are rejected at ingest.
        decoded_memory_bytes: A split whose decoded images take more lies in a scratch file instead of in memory.
        feature_cache_bytes: Room for features of unpatched bases, which later patches read; 0 keeps none.
    """

    lease_seconds: float = Field(default=LEASE_SECONDS, gt=0)
    heartbeat_seconds: float = Field(default=1.0, gt=0)
    checkpoint_seconds: float = Field(default=20.0, ge=0)
    ingest_limit_seconds: float = Field(default=3600.0, gt=0)
    patch_limit_seconds: float = Field(default=48 * 3600.0, gt=0)
    max_image_pixels: int = Field(default=50_000_000, gt=0)
    decoded_memory_bytes: int = Field(default=2 << 30, ge=0)
    feature_cache_bytes: int = Field(default=1 << 30, ge=0)
