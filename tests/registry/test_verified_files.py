"""Files of blobs that are read in parts: verified once, and again after any change."""

import os
from pathlib import Path

import pytest

from registry.blobs import FileBlobStore
from registry.errors import BlobCorruptError, BlobMissingError
from registry.verified_files import VerifiedFiles


class CountingStore(FileBlobStore):
    """A blob store that counts how often it has hashed a whole object for a reader."""

    num_fetched = 0

    def fetch(self, sha256: str) -> Path:
        self.num_fetched += 1
        return super().fetch(sha256)


def test_a_file_is_hashed_once_until_it_changes(tmp_path: Path) -> None:
    store = CountingStore(tmp_path)
    files = VerifiedFiles(store)
    name = store.put_bytes(b"shard")
    path = files.path(name)
    assert (path.read_bytes(), files.path(name), store.num_fetched) == (b"shard", path, 1)
    os.utime(path, ns=(1, 1))
    assert (files.path(name), store.num_fetched) == (path, 2)
    path.write_bytes(b"sharp")
    with pytest.raises(BlobCorruptError):
        files.path(name)
    path.unlink()
    with pytest.raises(BlobMissingError):
        files.path(name)
    store.put_bytes(b"shard")
    assert files.path(name).read_bytes() == b"shard"
