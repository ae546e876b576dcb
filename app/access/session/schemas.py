"""API schemas of sessions."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from contract.access import Scope


class Session(BaseModel):
    """The sender of a request, and the session of the browser, if there is one."""

    key_id: str | None = Field(description="Public id of the API key; null: no key exists, and none is required")
    owner: str | None = Field(description="Name on the key, which owns what it creates; null: no key is required")
    scopes: list[Scope] = Field(description="What the caller may do; `admin` includes the other scopes")
    expires_at: datetime | None = Field(
        default=None, description="When the session ends; null: the request has no session"
    )
    csrf_token: str | None = Field(
        default=None,
        description="Send it as `X-CSRF-Token` with each request of this session that changes something; null: the "
        "request has no session",
    )
