"""Storage limits of an ingest: the owner's quota and the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self

from registry.datasets import Datasets
from registry.disk import Disks
from registry.errors import StorageQuotaError
from registry.usage import Usage
from worker.job_context import JobContext

_LOOK_BYTES = 32 << 20
_Row = tuple[bytes, str, int]


class Allowance:
    """Counts what an ingest writes, and stops it before it is too much.

    Args:
        disks: Checked repeatedly, because other processes fill them too.
        owner: Of the data set; None: not counted.
        stored_bytes: What the owner stores besides this data set.
        max_stored_bytes: What one owner may store.
    """

    def __init__(self, disks: Disks, owner: str | None, stored_bytes: int, max_stored_bytes: int) -> None:
        self._disks = disks
        self._owner = owner
        self._stored_bytes = stored_bytes
        self._max_stored_bytes = max_stored_bytes
        self._num_bytes = 0

    @classmethod
    def of(cls, context: JobContext) -> Self:
        """Return the allowance of an ingest job."""
        settings = context.settings
        disks = Disks([settings.scratch_dir, settings.blob_dir], settings.min_free_bytes)
        with context.database.read() as session:
            row = Datasets(session).get(context.subject_id)
            stored = Usage(session).stored_bytes(row.owner) if row.owner is not None else 0
        archive_bytes = sum((row.blob_bytes or {}).values())  # replaced by its shards
        return cls(disks, row.owner, stored - archive_bytes, settings.max_stored_bytes)

    def spend(self, rows: Iterable[_Row]) -> Iterator[_Row]:
        """Yield the rows of a shard as long as there is room for them.

        Raises:
            StorageQuotaError: The owner would store too much.
        """
        unseen = _LOOK_BYTES
        for row in rows:
            self._num_bytes += len(row[0])
            unseen += len(row[0])
            if self._owner is not None and self._stored_bytes + self._num_bytes > self._max_stored_bytes:
                raise StorageQuotaError(self._owner, self._stored_bytes, self._num_bytes, self._max_stored_bytes)
            if unseen >= _LOOK_BYTES:
                unseen = 0
                self._disks.require()
            yield row
