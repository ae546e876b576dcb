"""API keys, repeated requests and API processes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.orm import Base


class IdempotencyKeyRow(Base):
    """A request that was carried out, by its owner and the client's key for it."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(String(64), primary_key=True)  # empty: requested without an API key
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    subject_id: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[datetime]


class ApiKeyRow(Base):
    """An API key, by the hash of its token. It stays when it is revoked: owners and history refer to it."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_created", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[Any]]
    sha256: Mapped[str] = mapped_column(String(64))
    created_by: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class BrowserSessionRow(Base):
    """A browser that sent an API key once, by the hash of its token. It ends with the key, or before."""

    __tablename__ = "browser_sessions"
    __table_args__ = (Index("ix_browser_sessions_key", "key_id", "created_at"),)

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(40))  # no foreign key: `bootstrap` is no row
    proof: Mapped[str] = mapped_column(String(64))  # that the key is still the same: see `registry.sessions`
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class ReplicaRow(Base):
    """An API process that registers itself. It is removed when it has not been seen for long."""

    __tablename__ = "replicas"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    host: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    version_id: Mapped[int | None]  # served as `active`; no foreign key: a purge must not wait for it
    canary_version_id: Mapped[int | None]
    shadow_version_id: Mapped[int | None]
