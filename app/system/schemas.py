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
    required: bool = Field(description="Whether classification stops without it")
    detail: str = Field(description="What was found, and what to do if it is not available")


class Ready(BaseModel):
    """Whether classify requests are answered; `degraded`: an optional dependency is unavailable."""

    status: Literal["ok", "degraded"] = Field(description="`ok`, or `degraded`: an optional dependency is unavailable")
    checks: dict[str, HealthCheck] = Field(description="What was looked at, by name")


class Replica(Resource):
    """An API process, as it last reported itself."""

    id: str = Field(description="Id of the process, new at each start")
    host: str = Field(description="Machine and process id")
    is_this: bool = Field(description="Whether this process answered the request")
    is_alive: bool = Field(description="False: it has been silent for long and is probably gone")
    started_at: datetime = Field(description="When it started")
    last_seen_at: datetime = Field(description="When it last reported")
    serving_version: int | None = Field(description="What it answers with as `active`")
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
    share: float = Field(description="Of the classify requests, in [0, 1]")
    trouble: str | None = Field(description="Why the version could not be loaded; `active` answers for it")


class Comparison(BaseModel):
    """Agreement of shadow and active version on the first label, in this process, since both were loaded."""

    active_version: int = Field(description="Id of the active version")
    shadow_version: int = Field(description="Id of the shadow version")
    agreement: float | None = Field(description="Share of the compared images; null before the first")
    agreed_images: int = Field(description="Number of images on which both put the same label first")
    differed_images: int = Field(description="Number of images on which they did not")
    dropped_images: int = Field(description="Not compared, because the shadow was busy or failed")


class StorageRoom(BaseModel):
    """The disk of the data that has the least to spare."""

    free_bytes: int = Field(description="Free space, in bytes")
    min_free_bytes: int = Field(description="Below it nothing is added: 507 `storage_full`")
    max_stored_bytes: int = Field(description="What one owner may store, where there are keys")


class System(BaseModel):
    """The process and the installation."""

    version: str = Field(description="Version of Paintbox")
    python: str = Field(description="Version of Python")
    torch: str = Field(description="Version of PyTorch")
    open_clip: str = Field(description="Version of open_clip")
    device: str = Field(description="Device that models run on: `cpu`, `cuda` or such")
    bases: list[str] = Field(description="References of the base models, the default first")
    active_version: int | None = Field(description="What the alias names")
    serving_version: int | None = Field(description="What this process answers with")
    queued_images: int = Field(description="Number of images that wait for the model")
    queued_texts: int = Field(description="Texts and prompts of new labels that wait for the text tower")
    canary: SecondaryVersion = Field(description="The version that answers a share of the requests")
    shadow: SecondaryVersion = Field(description="The version that runs in shadow")
    comparison: Comparison | None = Field(description="How shadow and active version agree; null: there is no shadow")
    storage: StorageRoom = Field(description="Room on the disk")
    replica: str = Field(description="Id of this process, new at each start")
    replicas: list[Replica] = Field(description="All API processes of the installation, the oldest first")
    database_fault: str | None = Field(
        default=None, description="Why the database is not available; what it knows is missing then"
    )


class Finding(BaseModel):
    """One item of a verification of everything; the response has one per line, the last one is a summary."""

    what: Literal["database", "blob", "version", "feature_cache", "summary"] = Field(description="What was looked at")
    name: str = Field(description="Which of them: a table, a blob's hash, a version's number, a file")
    ok: bool | None = Field(description="Null: it could not be looked at")
    detail: str = Field(description="What was found")
