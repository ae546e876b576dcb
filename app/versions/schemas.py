"""What versions and aliases look like on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.patches.schemas import BaseBrief
from registry.tables import AliasHistoryRow, AliasRow, BaseModelRow, VersionRow
from registry.versions import TermSpec


class VersionTerm(BaseModel):
    """One term of a mix: `coefficient` x `profile` x task vector."""

    task_vector_sha256: str
    coefficient: float
    profile: str


class Version(BaseModel):
    """An immutable mix of a base and task vectors; without terms it is the bare base."""

    id: int
    name: str
    base: BaseBrief
    terms: list[VersionTerm]
    lineage: dict[str, Any] = Field(description="What it was made from, and with what")
    patch_id: str | None
    is_active: bool
    created_at: datetime

    @classmethod
    def of(cls, row: VersionRow, base: BaseModelRow, terms: list[TermSpec], active_id: int | None) -> Version:
        """Return the resource of a row, its base and its terms."""
        return cls(
            id=row.id,
            name=row.name,
            base=BaseBrief.of(base),
            terms=[VersionTerm(**vars(term)) for term in terms],
            lineage=row.lineage,
            patch_id=row.patch_id,
            is_active=row.id == active_id,
            created_at=row.created_at,
        )


class VersionList(BaseModel):
    """Versions, newest first."""

    items: list[Version]


class Alias(BaseModel):
    """A movable name of a version."""

    name: str
    version: int
    updated_at: datetime

    @classmethod
    def of(cls, row: AliasRow) -> Alias:
        """Return the resource of a row."""
        return cls(name=row.name, version=row.version_id, updated_at=row.updated_at)


class AliasMove(BaseModel):
    """Body of `PUT /v1/aliases/active`."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1, le=2**31 - 1)
    reason: str = Field(default="", max_length=1000, description="For the history")


class AliasChange(BaseModel):
    """One move of an alias."""

    id: int
    from_version: int | None
    to_version: int
    actor: str
    reason: str
    at: datetime

    @classmethod
    def of(cls, row: AliasHistoryRow) -> AliasChange:
        """Return the resource of a row."""
        return cls(
            id=row.id,
            from_version=row.from_version_id,
            to_version=row.to_version_id,
            actor=row.actor,
            reason=row.reason,
            at=row.at,
        )


class AliasHistory(BaseModel):
    """An alias's moves, newest first."""

    items: list[AliasChange]
