"""What the process tells about itself."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


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
