"""Which blob store the settings name."""

from __future__ import annotations

from registry.blobs import BlobStore, FileBlobStore
from registry.object_blobs import ObjectBlobStore, has_objects, open_bucket
from registry.settings import StorageSettings


def open_blobs(settings: StorageSettings) -> BlobStore:
    """Return the blob store of `PAINTBOX_BLOB_URL`."""
    if settings.is_bucket:
        limit = int(settings.blob_cache_gigabytes * 1e9)
        return ObjectBlobStore(open_bucket(settings.blob_url), settings.blob_dir, limit)
    return FileBlobStore(settings.blob_dir)


def has_blobs(settings: StorageSettings) -> bool:
    """Return whether anything was ever stored."""
    if settings.is_bucket:
        return has_objects(open_bucket(settings.blob_url))
    return any((settings.blob_dir / "sha256").glob("*/*"))
