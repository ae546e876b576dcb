"""The content-addressed store in a bucket, for installations of more than one machine.

Fetched objects are cached in a local folder, which is trimmed. Uploads are atomic, and equal bytes have equal names,
so concurrent writers change nothing.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from registry.blobs import BlobInfo, FileBlobStore
from registry.errors import BlobCorruptError, BlobMissingError, BlobStoreUnreachableError, ConfigurationError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_CHUNK_BYTES = 4 << 20
_RETRY_TIMEOUT = timedelta(seconds=30)
_NO_BUCKET = "404 Not Found"  # the client has an error of its own only for a missing object
_KEPT_SECONDS = 3600.0
"""A file that was fetched within the last hour is not trimmed: a reader may be about to open it."""


def open_bucket(url: str) -> ObjectStore:
    """Return the bucket of an address; keys and endpoint come from the usual `AWS_*` variables.

    Args:
        url: `s3://bucket` or `s3://bucket/prefix`.

    Raises:
        ConfigurationError: The client is not installed, or the address or a variable is invalid.
    """
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError as error:
        raise ConfigurationError(
            "PAINTBOX_BLOB_URL is a bucket, but obstore is not installed.", "pip install 'paintbox[s3]'"
        ) from error
    try:
        return S3Store.from_url(url, retry_config={"max_retries": 5, "retry_timeout": _RETRY_TIMEOUT})
    except (BaseError, OSError, ValueError) as error:
        raise ConfigurationError(
            f"PAINTBOX_BLOB_URL: {url!r} is invalid: {_first_line(error)}.",
            "Use s3://bucket/prefix, and set the AWS_* variables.",
        ) from error


def has_objects(bucket: ObjectStore) -> bool:
    """Return whether the bucket holds any of our objects; false for a bucket that does not exist yet.

    Raises:
        BlobStoreUnreachableError: The bucket does not answer or refuses.
    """
    try:
        with _reached():
            return any(bucket.list("sha256/", chunk_size=1))
    except BlobStoreUnreachableError as error:
        if _NO_BUCKET in str(error):
            return False
        raise


class ObjectBlobStore:
    """A blob store in a bucket, with a local cache.

    Args:
        bucket: Holds the objects under `sha256/`.
        cache: A folder for what is written and fetched; processes may share it.
        max_cache_bytes: Size to which the cache is trimmed, least recently used first.
    """

    def __init__(self, bucket: ObjectStore, cache: Path, max_cache_bytes: int) -> None:
        self._bucket = bucket
        self._folder = cache
        self._cache = FileBlobStore(cache)
        self._max_cache_bytes = max_cache_bytes

    def put_bytes(self, data: bytes) -> str:
        """Store `data` and return its SHA-256 in hex; storing the same bytes again changes nothing."""
        return self._upload(self._cache.put_bytes(data))

    def put_file(self, path: Path) -> str:
        """Store a copy of the file and return its SHA-256 in hex."""
        return self._upload(self._cache.put_file(path))

    def read(self, sha256: str) -> bytes:
        """Return the object's bytes, which hash to its name."""
        return self.fetch(sha256).read_bytes()

    def fetch(self, sha256: str) -> Path:
        """Return a cached file with the object's verified bytes; it must not be changed and stays for an hour."""
        try:
            path = self._cache.fetch(sha256)
            os.utime(path)  # trimming goes by the last use
        except (BlobMissingError, BlobCorruptError, FileNotFoundError):  # the last: just trimmed by another process
            path = self._download(sha256)
        return path

    def delete(self, sha256: str) -> None:
        """Remove the object if it is there."""
        self._cache.delete(sha256)
        with _reached(), suppress(FileNotFoundError):
            self._bucket.delete(_key(sha256))

    def stat(self, sha256: str) -> BlobInfo | None:
        """Return the object's size and when it was last stored, or None if it is not there."""
        try:
            with _reached():
                found = self._bucket.head(_key(sha256))
        except FileNotFoundError:
            return None
        return BlobInfo(found["size"], found["last_modified"].timestamp())

    def _upload(self, sha256: str) -> str:
        with _reached():
            self._bucket.put(_key(sha256), self._cache.fetch(sha256))
        self._trim()
        return sha256

    def _download(self, sha256: str) -> Path:
        hashed = hashlib.sha256()
        with self._cache.incoming() as incoming:
            try:
                with _reached(), incoming.open("wb") as target:
                    for chunk in self._bucket.get(_key(sha256)).stream(min_chunk_size=_CHUNK_BYTES):
                        hashed.update(chunk)
                        target.write(chunk)
            except FileNotFoundError as error:
                raise BlobMissingError(sha256) from error
            if hashed.hexdigest() != sha256:
                raise BlobCorruptError(sha256, hashed.hexdigest())
            path = self._cache.adopt(incoming, sha256)
        self._trim()
        return path

    def _trim(self) -> None:
        """Remove the least recently used files until the cache is small enough; files in use stay."""
        files = []
        for path in (self._folder / "sha256").glob("*/*"):
            with suppress(FileNotFoundError):  # another process trims too
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
        total, newest = sum(size for _, size, _ in files), time.time() - _KEPT_SECONDS
        for used, size, path in sorted(files):
            if total <= self._max_cache_bytes or used > newest:
                return
            path.unlink(missing_ok=True)
            total -= size


@contextmanager
def _reached() -> Iterator[None]:
    """Convert the client's errors to ours, except for a missing object."""
    from obstore.exceptions import BaseError

    try:
        yield
    except BaseError as error:
        raise BlobStoreUnreachableError(_first_line(error)) from error


def _key(sha256: str) -> str:
    assert len(sha256) == 64, sha256
    return f"sha256/{sha256[:2]}/{sha256}"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
