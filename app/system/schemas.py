"""API schemas of the system."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, Field

from app.http.resources import Resource
from registry.tables import ReplicaRow


class Live(BaseModel):
    """Check that the process responds."""

    status: Literal["ok"] = Field(default="ok", description="Always `ok`")


class HealthCheck(BaseModel):
    """One thing that the service needs."""

    ok: bool = Field(description="Whether it is available")
    required: bool = Field(description="Whether classification requires it")
    detail: str = Field(description="Result, and how to resolve a failure")


class Ready(BaseModel):
    """Whether classify requests are answered; `degraded`: an optional dependency is unavailable."""

    status: Literal["ok", "degraded"] = Field(description="`ok`, or `degraded`: an optional dependency is unavailable")
    checks: dict[str, HealthCheck] = Field(description="Results of the checks, by name")


class Replica(Resource):
    """An API process, as it last reported itself."""

    id: str = Field(description="Id of the process; it changes with each start")
    host: str = Field(description="Host name and process id")
    is_this: bool = Field(description="Whether this process answered the request")
    is_alive: bool = Field(description="Whether it reported recently; if not, it has probably ended")
    started_at: datetime = Field(description="When it started")
    last_seen_at: datetime = Field(description="When it last reported")
    serving_version: int | None = Field(description="Id of the version that it serves as `active`; null: none")
    canary_version: int | None = Field(description="Id of the version that it has loaded as `canary`; null: none")
    shadow_version: int | None = Field(description="Id of the version that it has loaded as `shadow`; null: none")

    @classmethod
    def of(cls, row: ReplicaRow, *, is_alive: bool) -> Self:
        """Return the resource of another process's row."""
        return cls.from_row(
            row,
            is_this=False,
            is_alive=is_alive,
            last_seen_at=row.seen_at,
            serving_version=row.version_id,
            canary_version=row.canary_version_id,
            shadow_version=row.shadow_version_id,
        )


class SecondaryVersion(BaseModel):
    """The version that the alias `canary` or `shadow` names."""

    version: int | None = Field(description="Version that the alias names; null: the alias does not exist")
    serving_version: int | None = Field(description="Version that this process has loaded")
    share: float = Field(description="Share of the classify requests, 0 to 1")
    trouble: str | None = Field(
        description="Why the version could not be loaded; `active` serves instead. Null: no error"
    )


class Comparison(BaseModel):
    """Agreement of shadow and active version on the first label, in this process, since both were loaded."""

    active_version: int = Field(description="Id of the active version")
    shadow_version: int = Field(description="Id of the shadow version")
    agreement: float | None = Field(description="Share of the compared images; null before the first")
    agreed_images: int = Field(description="Number of images on which both put the same label first")
    differed_images: int = Field(description="Number of images on which they did not")
    dropped_images: int = Field(
        description="Number of images that were not compared, because the shadow was busy or failed"
    )


class StorageRoom(BaseModel):
    """The disk of the data that has the least to spare."""

    free_bytes: int = Field(description="Free space, in bytes")
    min_free_bytes: int = Field(
        description="Minimum free space, in bytes; below it, requests that store data get 507 `storage_full`"
    )
    max_stored_bytes: int = Field(description="Storage quota of one owner, in bytes; applied with keys only")


class System(BaseModel):
    """The process and the installation."""

    version: str = Field(description="Version of Paintbox")
    python: str = Field(description="Version of Python")
    torch: str = Field(description="Version of PyTorch")
    open_clip: str = Field(description="Version of open_clip")
    device: str = Field(description="Device of the models: `cpu` or the name of the GPU")
    bases: list[str] = Field(description="References of the base models, the default first")
    active_version: int | None = Field(
        description="Id of the version that the alias `active` names; null: the database is unavailable"
    )
    serving_version: int | None = Field(description="Id of the version that this process serves; null: none")
    serving_precision: str | None = Field(
        description="Arithmetic of its image tower in this process: `fp32` or `bf16`; null: no version"
    )
    precision_reason: str | None = Field(description="Why it is not the configured one; null: it is")
    queued_images: int = Field(description="Number of images in the queue")
    queued_texts: int = Field(description="Number of texts and prompts in the queue")
    canary: SecondaryVersion = Field(description="The canary version")
    shadow: SecondaryVersion = Field(description="The shadow version")
    comparison: Comparison | None = Field(description="Agreement of shadow and active version; null: no shadow")
    storage: StorageRoom = Field(description="Storage limits")
    replica: str = Field(description="Id of this process; it changes with each start")
    replicas: list[Replica] = Field(description="All API processes of the installation, oldest first")
    database_fault: str | None = Field(
        default=None, description="Why the database is not available; what it knows is missing then"
    )


class Finding(BaseModel):
    """One item of a verification of everything; the response has one per line, the last one is a summary."""

    what: Literal["database", "blob", "version", "feature_cache", "summary"] = Field(description="Kind of item")
    name: str = Field(description="Name of the item: a table, a blob's hash, a version's number, a file")
    ok: bool | None = Field(description="Whether it is intact; null: it could not be checked")
    detail: str = Field(description="Explanation of the result")
