"""Rows of stored splits: names and labels, which are cached, and single images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import pyarrow as pa

from app.http.dependencies import provided
from app.runtime.byte_cache import ByteCache
from registry.blobs import BlobStore
from registry.shards import read_image, read_index
from registry.verified_files import VerifiedFiles

INDEX_BYTES = 64 << 20
_Result = TypeVar("_Result")


class StoredShards:
    """Reads rows of shards by the hashes of their blobs.

    Args:
        blobs: Where they are stored.
        index_bytes: Size of the cache of names and labels.
    """

    def __init__(self, blobs: BlobStore, index_bytes: int = INDEX_BYTES) -> None:
        self._files = VerifiedFiles(blobs)
        self._indices: ByteCache[str, pa.Table] = ByteCache(index_bytes)

    def index(self, sha256: str) -> pa.Table:
        """Return the names and labels of all images, in the columns `name` and `label`."""
        index = self._indices.get(sha256)
        if index is None:
            index = self._read(sha256, read_index)
            self._indices.put(sha256, index, index.nbytes)
        return index

    def image(self, sha256: str, row: int) -> bytes:
        """Return the image file in a row, from 0; `IndexError` if the shard has no such row."""
        return self._read(sha256, lambda path: read_image(path, row))

    def _read(self, sha256: str, read: Callable[[Path], _Result]) -> _Result:
        try:
            return read(self._files.path(sha256))
        except FileNotFoundError:  # it has just been trimmed from a cache
            return read(self._files.path(sha256))


StoredShardsDep = Annotated[StoredShards, provided(StoredShards)]
