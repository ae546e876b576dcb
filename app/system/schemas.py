"""What the process tells about itself."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, Field

from registry.tables import ReplicaRow


class Live(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Check(BaseModel):
    """One thing that the service needs."""

    ok: bool
    required: bool = Field(description="Whether classification stops without it")
    detail: str


class Ready(BaseModel):
    """Whether classify requests are answered; `degraded` means that something beside is missing."""

    status: Literal["ok", "degraded"]
    checks: dict[str, Check]


class Replica(BaseModel):
    """An API process, as it last told of itself."""

    id: str
    host: str = Field(description="Machine and process id")
    is_this: bool = Field(description="Whether this process answered the request")
    is_alive: bool = Field(description="False: it has been silent for long and is probably gone")
    started_at: datetime
    last_seen_at: datetime
    serving_version: int | None = Field(description="What it answers with as `active`")

    @classmethod
    def of(cls, row: ReplicaRow, *, is_this: bool, is_alive: bool) -> Self:
        """Return the resource of a row."""
        return cls(
            id=row.id,
            host=row.host,
            is_this=is_this,
            is_alive=is_alive,
            started_at=row.started_at,
            last_seen_at=row.seen_at,
            serving_version=row.version_id,
        )


class System(BaseModel):
    """What runs here."""

    version: str
    python: str
    torch: str
    open_clip: str
    device: str
    bases: list[str]
    active_version: int | None = Field(description="What the alias names")
    serving_version: int | None = Field(description="What this process answers with")
    queued_images: int
    replica: str = Field(description="Id of this process, new at each start")
    replicas: list[Replica] = Field(description="All API processes of the installation, the oldest first")
