"""Base models, task vectors, versions and aliases."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.orm import Base


class BaseModelRow(Base):
    """A base model that versions are mixed from, known by the fingerprint of its weights."""

    __tablename__ = "base_models"

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    ref: Mapped[str] = mapped_column(String(500), unique=True)
    embed_dim: Mapped[int]
    image_size: Mapped[int]
    created_at: Mapped[datetime]


class TaskVectorRow(Base):
    """A stored term: a task vector, which fine-tuning added to the base, or a head term, which corrects answers."""

    __tablename__ = "task_vectors"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    base_fingerprint: Mapped[str] = mapped_column(ForeignKey("base_models.fingerprint"))
    num_bytes: Mapped[int]
    relative_norm: Mapped[float]
    job_id: Mapped[str] = mapped_column(String(40))
    kind: Mapped[str] = mapped_column(String(16), default="tower", server_default="tower")  # a `TermKind`
    created_at: Mapped[datetime]


class VersionRow(Base):
    """An immutable mix: a base and the terms in `version_terms`. `job_id` is unique: one job, at most one version."""

    __tablename__ = "versions"
    __table_args__ = (
        Index("ix_versions_owner", "owner", "id"),
        {"sqlite_autoincrement": True},  # an id is never used again, even after a deletion
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(200))
    base_fingerprint: Mapped[str] = mapped_column(ForeignKey("base_models.fingerprint"))
    patch_id: Mapped[str | None] = mapped_column(ForeignKey("patches.id"))
    job_id: Mapped[str | None] = mapped_column(String(40), unique=True)
    probe: Mapped[list[Any]]
    lineage: Mapped[dict[str, Any]]
    owner: Mapped[str | None] = mapped_column(String(64))
    weights_fingerprint: Mapped[str | None] = mapped_column(String(64))  # of the mixed image tower
    evaluation: Mapped[dict[str, Any] | None]
    routing: Mapped[str] = mapped_column(String(16), default="none", server_default="none")  # a `RoutingMode`
    patched_names: Mapped[dict[str, Any] | None]  # `NameAccuracy` by name
    precision_checks: Mapped[list[Any] | None]  # of `PrecisionCheck`
    serving_precision: Mapped[str | None] = mapped_column(String(8))  # a `WantedPrecision`; null: the installation's
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]  # when it went to the trash


class VersionTagRow(Base):
    """A label by which users find a version."""

    __tablename__ = "version_tags"
    __table_args__ = (Index("ix_version_tags_tag", "tag", "version_id"),)

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)


class VersionParentRow(Base):
    """A version that another one was made from: whose terms it took, or whose training its task vectors come from."""

    __tablename__ = "version_parents"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True, index=True)


class VersionTermRow(Base):
    """One term of a version: coefficient x profile x task vector; a head term has the profile `head`."""

    __tablename__ = "version_terms"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    task_vector_sha256: Mapped[str] = mapped_column(ForeignKey("task_vectors.sha256"))
    coefficient: Mapped[float]
    profile: Mapped[str] = mapped_column(String(16))


class AliasRow(Base):
    """A movable name of a version."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    updated_at: Mapped[datetime]


class AliasHistoryRow(Base):
    """Append-only: every move of every alias; a row without a target version records the alias's deletion."""

    __tablename__ = "alias_history"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    alias: Mapped[str] = mapped_column(String(64), index=True)
    from_version_id: Mapped[int | None]
    to_version_id: Mapped[int | None]
    actor: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(String(1000))
    forced: Mapped[bool] = mapped_column(default=False)  # overrode the guard
    restores_id: Mapped[int | None]  # for a rollback: the move that it restores, never a rollback
    at: Mapped[datetime]


class AliasApprovalRow(Base):
    """A move of an alias that was requested and that somebody else approves or rejects: an `ApprovalState`."""

    __tablename__ = "alias_approvals"
    __table_args__ = (Index("ix_alias_approvals_alias", "alias", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    alias: Mapped[str] = mapped_column(String(64))
    version_id: Mapped[int]  # no foreign key: a purge must not wait for it
    revision: Mapped[int]  # of the alias when the move was requested; 0: there was none
    reason: Mapped[str] = mapped_column(String(1000))
    forced: Mapped[bool]
    state: Mapped[str] = mapped_column(String(16))
    requested_by: Mapped[str] = mapped_column(String(200))
    requester_key: Mapped[str | None] = mapped_column(String(40))  # id of the key; null: a patch, or no key
    decided_by: Mapped[str | None] = mapped_column(String(200))
    decision_reason: Mapped[str | None] = mapped_column(String(1000))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
