"""Purging the trash: versions that nothing needs, and the blobs that are then unused."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeVar

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from contract.jobs import JobKind, JobStatus
from registry.blobs import BlobStore
from registry.database import Database
from registry.errors import ConflictError
from registry.repository import Repository
from registry.tables import (
    AliasRow,
    JobRow,
    PatchRow,
    TaskVectorRow,
    VersionParentRow,
    VersionRow,
    VersionTagRow,
    VersionTermRow,
)
from registry.unused_blobs import UnusedBlobs, measure_unused

GRACE_SECONDS = 3600.0
"""A task vector this recent is kept: its creator may be about to use it."""

_Value = TypeVar("_Value")
_CHUNK = 500  # values in one statement; databases bound them


@dataclass(frozen=True)
class Garbage:
    """What a collection deletes, or would delete.

    Attributes:
        versions: In the trash, past their retention, and not needed.
        kept: In the trash and past their retention, but needed by an alias or another version: the reason, by version.
        task_vectors: Size in bytes by hash, of those that no version then needs.
        blobs: Size in bytes by hash, left by deleted data sets and patches, failed uploads and abandoned patches.
    """

    versions: tuple[int, ...]
    kept: dict[int, str]
    task_vectors: dict[str, int]
    blobs: dict[str, int] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Size of the blobs in bytes."""
        return sum(self.task_vectors.values()) + sum(self.blobs.values())


class Retention(Repository):
    """What may be purged, within one transaction."""

    def find(self, retention_seconds: float, grace_seconds: float = GRACE_SECONDS) -> Garbage:
        """Return what may be purged now.

        Args:
            grace_seconds: Minimum age of a task vector.

        Returns:
            Nothing that an alias names or that a remaining version was made from.
        """
        before = self._now() - timedelta(seconds=retention_seconds)
        query = select(VersionRow.id).where(VersionRow.deleted_at <= before).order_by(VersionRow.id)
        candidates = self._session.scalars(query).all()
        kept = self._needed(candidates)
        gone = tuple(version_id for version_id in candidates if version_id not in kept)
        return Garbage(gone, kept, self._unused_vectors(set(gone), grace_seconds))

    def remove(self, garbage: Garbage) -> None:
        """Delete the rows; the database rejects this if something refers to them again.

        Args:
            garbage: From `find`, in the same transaction.
        """
        for ids in _chunks(garbage.versions):
            for column in (VersionTermRow.version_id, VersionTagRow.version_id, VersionParentRow.version_id):
                self._session.execute(delete(column.class_).where(column.in_(ids)))
        for ids in _chunks(garbage.versions):
            self._session.execute(delete(VersionRow).where(VersionRow.id.in_(ids)))
        for sha256s in _chunks(garbage.task_vectors):
            self._session.execute(delete(TaskVectorRow).where(TaskVectorRow.sha256.in_(sha256s)))

    def _needed(self, candidates: Collection[int]) -> dict[int, str]:
        named = self._session.execute(select(AliasRow.version_id, AliasRow.name)).all()
        kept = {version: f"it has the alias {name!r}" for version, name in named if version in set(candidates)}
        pairs = select(VersionParentRow.parent_id, VersionParentRow.version_id).order_by(VersionParentRow.version_id)
        children = self._session.execute(
            pairs.join(VersionRow, VersionRow.id == VersionParentRow.parent_id).where(
                VersionRow.deleted_at.is_not(None)
            )
        ).all()
        goes = set(candidates) - kept.keys()
        while True:
            needed = {parent: child for parent, child in children if parent in goes and child not in goes}
            if not needed:
                return kept
            kept |= {parent: f"version {child} was created from it" for parent, child in needed.items()}
            goes -= needed.keys()

    def _unused_vectors(self, gone: Collection[int], grace_seconds: float) -> dict[str, int]:
        """Size by hash of old task vectors that no remaining version has as a term or shares a patch with."""
        before = self._now() - timedelta(seconds=grace_seconds)
        vectors = self._session.scalars(select(TaskVectorRow).where(TaskVectorRow.created_at <= before)).all()
        terms = self._session.execute(select(VersionTermRow.version_id, VersionTermRow.task_vector_sha256))
        used = {sha256 for version_id, sha256 in terms if version_id not in gone}
        busy = self._jobs_in_use(gone)
        return {row.sha256: row.num_bytes for row in vectors if row.sha256 not in used and row.job_id not in busy}

    def _jobs_in_use(self, gone: Collection[int]) -> set[str]:
        """Jobs of patches that still have a version, or that train on the same data as an unfinished patch.

        The former can be reselected with another alpha. The same training gives the same task vector, so the latter may
        be about to refer to it.
        """
        made = self._session.execute(select(VersionRow.id, VersionRow.patch_id).where(VersionRow.patch_id.is_not(None)))
        living = {patch_id for version_id, patch_id in made if version_id not in gone}
        unfinished = select(JobRow.id).where(
            JobRow.kind == JobKind.PATCH, JobRow.status.in_((JobStatus.QUEUED, JobStatus.RUNNING))
        )
        waiting = set(self._session.scalars(unfinished))
        patches = self._session.execute(select(PatchRow.id, PatchRow.job_id, PatchRow.request)).all()
        training = {dataset for _, job_id, request in patches if job_id in waiting for dataset in request["tasks"]}
        return {
            job_id
            for patch_id, job_id, request in patches
            if patch_id in living or not training.isdisjoint(request["tasks"])
        }


def collect_garbage(
    database: Database,
    blobs: BlobStore,
    retention_seconds: float,
    *,
    grace_seconds: float = GRACE_SECONDS,
    dry_run: bool = False,
) -> Garbage:
    """Purge what is no longer needed, and return it.

    Rows are deleted first, in one transaction: a concurrent reference is either seen or rejected. A crash before the
    commit leaves rows of task vectors without a blob, which no version needs; the next collection deletes them. Other
    blobs are deleted after the commit, and remembered until then.

    Args:
        retention_seconds: How long a version stays in the trash and a failed patch can be retried.

    Returns:
        What was deleted, or would be.

    Raises:
        ConflictError: Some of it came into use at the same time; nothing was deleted.
    """
    if dry_run:
        with database.read() as session:
            garbage = Retention(session).find(retention_seconds, grace_seconds)
            unused = UnusedBlobs(session).find(retention_seconds)
        return replace(garbage, blobs=measure_unused(blobs, unused, grace_seconds))
    try:
        with database.write() as session:
            retention = Retention(session)
            garbage = retention.find(retention_seconds, grace_seconds)
            retention.remove(garbage)
            unused = _collect_unused(UnusedBlobs(session), retention_seconds)
            for sha256 in garbage.task_vectors:
                blobs.delete(sha256)
    except IntegrityError as error:
        raise ConflictError("A resource to be purged is in use again.", "Nothing was deleted; retry.") from error
    freed = measure_unused(blobs, unused, grace_seconds)
    for sha256 in freed:
        blobs.delete(sha256)
    with database.write() as session:
        UnusedBlobs(session).drop(freed)
    return replace(garbage, blobs=freed)


def _collect_unused(candidates: UnusedBlobs, retention_seconds: float) -> list[str]:
    candidates.collect_leavings(retention_seconds)
    candidates.drop_named()
    return candidates.find(retention_seconds)


def _chunks(values: Iterable[_Value]) -> Iterable[list[_Value]]:
    items = list(values)
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
