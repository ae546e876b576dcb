"""API schemas of verification and garbage collection."""

from __future__ import annotations

from pydantic import BaseModel, Field

from registry.retention import Garbage


class VersionCheck(BaseModel):
    """One thing that was compared."""

    what: str = Field(description="`base`, `task_vector`, `weights` or `probe`")
    name: str = Field(description="Name of the item")
    matches: bool | None = Field(description="Whether they are equal; null: not comparable")
    expected: str | None = Field(description="Registered value; null: none")
    actual: str | None = Field(description="Current value; null: none")
    detail: str = Field(description="Explanation of the result")


class Verification(BaseModel):
    """Whether a version is unchanged since its registration."""

    version: int = Field(description="Id of the version")
    matches: bool = Field(description="Whether all comparable items, including the probe, are equal")
    checks: list[VersionCheck] = Field(description="The checks")


class FreedBlob(BaseModel):
    """A blob that nothing needs."""

    sha256: str = Field(description="Name of the blob: SHA-256 of its content")
    num_bytes: int = Field(description="Size in bytes")


class KeptVersion(BaseModel):
    """A version in the trash that stays although its time is over."""

    version: int = Field(description="Id of the version")
    reason: str = Field(description="Why it is kept")


class Collected(BaseModel):
    """What a garbage collection freed, or would free."""

    dry_run: bool = Field(description="Whether this is a preview, in which nothing was freed")
    versions: list[int] = Field(description="Ids of the purged versions")
    kept: list[KeptVersion] = Field(description="Expired versions in the trash that are still needed")
    task_vectors: list[FreedBlob] = Field(description="Freed task vectors")
    blobs: list[FreedBlob] = Field(description="Freed blobs of deleted data sets and patches and of failed jobs")
    num_bytes: int = Field(description="Size of all freed blobs, in bytes")

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
