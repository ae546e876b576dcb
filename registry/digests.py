"""What the test images of data sets show: digests in one blob for each data set, 32 bytes each, sorted, once."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import select

from contract.datasets import DatasetKind, DatasetState
from registry.repository import Repository
from registry.tables import DatasetRow

_SIZE = 32


def place_of(digest: bytes) -> float:
    """Return a number in [0, 1) that is the same for a picture everywhere, and decides its split.

    Test splits begin at 0 and validation splits follow, so that with shares of 10 % each here and 15 % each there, no
    picture is in test of one data set and in train of another.
    """
    return int.from_bytes(hashlib.sha256(b"split" + digest).digest()[:8]) / 2**64


def pack_digests(digests: Iterable[bytes]) -> bytes:
    """Return the bytes of a blob of digests."""
    return b"".join(sorted(set(digests)))


def find_digests(packed: bytes, wanted: Container[bytes]) -> Iterator[bytes]:
    """Yield the digests in a blob that are wanted."""
    for start in range(0, len(packed), _SIZE):
        digest = packed[start : start + _SIZE]
        if digest in wanted:
            yield digest


@dataclass(frozen=True)
class HeldOut:
    """The test images of a ready data set.

    Attributes:
        dataset_id: The data set.
        name: Its display name.
        shard: Blob of the images.
        digests: Blob of what they show; None: not known yet.
    """

    dataset_id: str
    name: str
    shard: str
    digests: str | None


class HeldOutImages(Repository):
    """The test images of all data sets within one transaction."""

    def all(self) -> list[HeldOut]:
        """Return those of the ready data sets with labels; once for data sets that share them, such as derived ones."""
        columns = (DatasetRow.id, DatasetRow.name, DatasetRow.shards, DatasetRow.test_digests)
        ready = select(*columns).where(DatasetRow.state == DatasetState.READY, DatasetRow.kind == DatasetKind.LABELLED)
        found: dict[str, HeldOut] = {}
        for identifier, name, shards, digests in self._session.execute(
            ready.order_by(DatasetRow.created_at, DatasetRow.id)
        ):
            shard = (shards or {}).get("test")
            if shard:
                found.setdefault(shard["sha256"], HeldOut(identifier, name, shard["sha256"], digests))
        return list(found.values())

    def remember(self, dataset_id: str, digests: str, num_bytes: int) -> None:
        """Record the blob of digests of a data set, unless that has been deleted."""
        row = self._session.get(DatasetRow, dataset_id)
        if row is not None:
            row.test_digests = digests
            row.blob_bytes = None if row.blob_bytes is None else row.blob_bytes | {digests: num_bytes}
