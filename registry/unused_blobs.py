"""Blobs that may be unused: their user was deleted, or its job failed for good.

The blob store is never listed and compared with the database: a folder or bucket shared by two installations by
mistake, or a database restored from a backup, would lose everything. Only blobs that this database once referred to
are deleted, and only if nothing refers to them now.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from contract.datasets import DatasetState
from contract.jobs import JobKind, JobStatus
from registry.blobs import BlobStore
from registry.repository import Repository
from registry.tables import DatasetRow, FeedbackRow, JobRow, MeasurementRow, PatchRow, TaskVectorRow, UnusedBlobRow

_OPEN = (JobStatus.QUEUED, JobStatus.RUNNING)
_GIVEN_UP = (JobStatus.FAILED, JobStatus.CANCELLED)


class UnusedBlobs(Repository):
    """Candidates for deletion, within one transaction."""

    def add(self, sha256s: Iterable[str]) -> None:
        """Add blobs whose user is deleted in this transaction."""
        for sha256 in sorted(set(sha256s)):
            if self._session.get(UnusedBlobRow, sha256) is not None:
                continue
            with suppress(IntegrityError), self._session.begin_nested():  # another deletion may add the same
                self._session.add(UnusedBlobRow(sha256=sha256, created_at=self._now()))
                self._session.flush()

    def drop(self, sha256s: Iterable[str]) -> None:
        """Remove blobs from the candidates, because they have been deleted or are in use again."""
        for sha256 in sha256s:
            self._session.execute(delete(UnusedBlobRow).where(UnusedBlobRow.sha256 == sha256))

    def collect_leavings(self, retention_seconds: float) -> None:
        """Add what failed uploads and abandoned patches have left, and clear it from their rows.

        Args:
            retention_seconds: How long a failed or cancelled patch can be retried from its checkpoint.
        """
        for row in self._failed_uploads():
            self.add(row.blob_bytes or ())
            row.blob_bytes = None
        for job in self._given_up(retention_seconds):
            self.add(_named_by(job.checkpoint or {}))
            job.checkpoint = None
        self._session.flush()

    def find(self, retention_seconds: float) -> list[str]:
        """Return, sorted, the unused blobs, including what `collect_leavings` would add. Changes nothing."""
        given_up = self._given_up(retention_seconds)
        candidates = set(self._session.scalars(select(UnusedBlobRow.sha256)))
        candidates.update(*(row.blob_bytes or () for row in self._failed_uploads()))
        candidates.update(*(_named_by(job.checkpoint or {}) for job in given_up))
        return sorted(candidates - self._named(candidates, {job.id for job in given_up})) if candidates else []

    def drop_named(self) -> None:
        """Remove the candidates that are in use again."""
        candidates = set(self._session.scalars(select(UnusedBlobRow.sha256)))
        if candidates:
            self.drop(self._named(candidates))

    def unnamed(self, sha256s: Collection[str]) -> set[str]:
        """Return those of these blobs that nothing refers to."""
        return set(sha256s) - self._named(sha256s)

    def _failed_uploads(self) -> Sequence[DatasetRow]:
        failed = select(DatasetRow).where(DatasetRow.state == DatasetState.FAILED, DatasetRow.blob_bytes.is_not(None))
        return self._session.scalars(failed).all()

    def _given_up(self, retention_seconds: float) -> list[JobRow]:
        before, parent = self._now() - timedelta(seconds=retention_seconds), aliased(JobRow)
        of_patch = and_(JobRow.kind == JobKind.PATCH, JobRow.status.in_(_GIVEN_UP), JobRow.finished_at <= before)
        of_part = and_(parent.status.in_(_GIVEN_UP), parent.finished_at <= before)
        query = select(JobRow).outerjoin(parent, parent.id == JobRow.parent_id)
        return list(self._session.scalars(query.where(or_(of_patch, of_part), JobRow.checkpoint.is_not(None))))

    def _named(self, candidates: Collection[str], ignored_jobs: Collection[str] = ()) -> set[str]:
        """Return the candidates that any row names, but for the checkpoints of some jobs."""
        named = set(self._session.scalars(select(TaskVectorRow.sha256).where(TaskVectorRow.sha256.in_(candidates))))
        predictions = MeasurementRow.predictions_sha256
        named.update(self._session.scalars(select(predictions).where(predictions.in_(candidates))))
        images = FeedbackRow.image_sha256
        named.update(self._session.scalars(select(images).where(images.in_(candidates))))
        for found in (self._of_datasets(), self._of_reports(), self._of_jobs(ignored_jobs)):
            named.update(sha256 for sha256 in found if sha256 in candidates)
        return named

    def _of_datasets(self) -> Iterator[str]:
        query = select(DatasetRow.archive_sha256).where(DatasetRow.state == DatasetState.INGESTING)
        yield from self._session.scalars(query)
        for shards in self._session.scalars(select(DatasetRow.shards).where(DatasetRow.shards.is_not(None))):
            yield from (shard["sha256"] for shard in (shards or {}).values())
        digests = select(DatasetRow.test_digests).where(DatasetRow.test_digests.is_not(None))
        yield from (sha256 for sha256 in self._session.scalars(digests) if sha256 is not None)

    def _of_reports(self) -> Iterator[str]:
        for interpolants in self._session.scalars(select(PatchRow.report["interpolants"])):
            yield from (interpolants or {}).values()

    def _of_jobs(self, ignored: Collection[str]) -> Iterator[str]:
        """Results of jobs that are unfinished, can be retried, or have a parent that has yet to take them."""
        parent = aliased(JobRow)
        unfinished = or_(JobRow.status != JobStatus.SUCCEEDED, parent.status != JobStatus.SUCCEEDED)
        query = select(JobRow.id, JobRow.checkpoint).outerjoin(parent, parent.id == JobRow.parent_id)
        for job_id, checkpoint in self._session.execute(query.where(unfinished, JobRow.checkpoint.is_not(None))):
            if job_id not in ignored:
                yield from _named_by(checkpoint or {})


def blobs_of_dataset(row: DatasetRow) -> set[str]:
    """Return the blobs that a data set refers to."""
    shards = {shard["sha256"] for shard in (row.shards or {}).values()}
    digests = set() if row.test_digests is None else {row.test_digests}
    return shards | digests | set(row.blob_bytes or ()) | {row.archive_sha256}


def blobs_of_patch(row: PatchRow, jobs: Iterable[JobRow]) -> set[str]:
    """Return the blobs that a patch's report and the checkpoints of its jobs refer to."""
    interpolants = set(((row.report or {}).get("interpolants") or {}).values())
    return interpolants.union(*(_named_by(job.checkpoint or {}) for job in jobs))


def measure_unused(blobs: BlobStore, sha256s: Iterable[str], grace_seconds: float) -> dict[str, int]:
    """Return the sizes of the blobs that are old enough to be deleted; 0 for one that is already gone.

    Args:
        grace_seconds: A blob stored more recently than this may be about to be referred to, even if it existed before.
    """
    before = time.time() - grace_seconds
    found = {sha256: blobs.stat(sha256) for sha256 in sha256s}
    return {
        sha256: 0 if info is None else info.num_bytes
        for sha256, info in found.items()
        if info is None or info.stored_at <= before
    }


def _named_by(checkpoint: dict[str, object]) -> set[str]:
    vectors, state = checkpoint.get("task_vectors"), checkpoint.get("state_sha256")
    named = set(vectors.values()) if isinstance(vectors, dict) else set()
    return named | ({state} if isinstance(state, str) else set())
