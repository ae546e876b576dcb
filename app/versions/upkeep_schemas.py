"""API schemas of verification and garbage collection."""

from __future__ import annotations

from pydantic import BaseModel, Field

from registry.retention import Garbage


class VersionCheck(BaseModel):
    """One thing that was compared."""

    what: str = Field(description="`base`, `task_vector`, `weights` or `probe`")
    name: str = Field(description="Which of them")
    matches: bool | None = Field(description="Null: there is nothing to compare with, or no way to")
    expected: str | None = Field(description="What was registered; null: nothing")
    actual: str | None = Field(description="What is there now; null: nothing")
    detail: str = Field(description="What was found, for people")


class Verification(BaseModel):
    """Whether a version is unchanged since its registration."""

    version: int = Field(description="Id of the version")
    matches: bool = Field(description="Everything that could be compared is equal, and the probe could be")
    checks: list[VersionCheck] = Field(description="Everything that was compared")


class FreedBlob(BaseModel):
    """A blob that nothing needs."""

    sha256: str = Field(description="Name of the blob: SHA-256 of its content")
    num_bytes: int = Field(description="Size in bytes")


class KeptVersion(BaseModel):
    """A version in the trash that stays although its time is over."""

    version: int = Field(description="Id of the version")
    reason: str = Field(description="What still needs it")


class Collected(BaseModel):
    """What a garbage collection freed, or would free."""

    dry_run: bool = Field(description="Whether nothing was freed, because only a preview was asked for")
    versions: list[int] = Field(description="Purged")
    kept: list[KeptVersion] = Field(description="Versions in the trash that stay although their time is over")
    task_vectors: list[FreedBlob] = Field(description="That no version needs")
    blobs: list[FreedBlob] = Field(description="Left by deleted data sets and patches and by failed jobs")
    num_bytes: int = Field(description="Of all of them")

    @classmethod
    def of(cls, garbage: Garbage, dry_run: bool) -> Collected:
        """Return the resource of the garbage that was found."""
        return cls(
            dry_run=dry_run,
            versions=list(garbage.versions),
            kept=[KeptVersion(version=version, reason=reason) for version, reason in garbage.kept.items()],
            task_vectors=[FreedBlob(sha256=sha, num_bytes=size) for sha, size in garbage.task_vectors.items()],
            blobs=[FreedBlob(sha256=sha, num_bytes=size) for sha, size in garbage.blobs.items()],
            num_bytes=garbage.num_bytes,
        )
