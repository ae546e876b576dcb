"""Local files of large blobs that are read in parts: each is verified once, and again when it has changed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from registry.blobs import BlobStore

_MAX_KNOWN = 1000
_Signature = tuple[int, int, int]


class VerifiedFiles:
    """Files of blobs whose bytes had the right hash when they were first read here.

    Hashing a shard of gigabytes takes seconds, which is too long for each of its thumbnails. A file that was replaced,
    written to or trimmed from a cache is fetched and verified again.

    Args:
        blobs: Where they are stored.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._known: OrderedDict[str, tuple[Path, _Signature]] = OrderedDict()
        self._lock = threading.Lock()
        self._verifying: dict[str, threading.Lock] = {}

    def path(self, sha256: str) -> Path:
        """Return a local file with a blob's verified bytes; concurrent callers verify it once.

        Raises:
            BlobMissingError: There is no such blob.
            BlobCorruptError: Its bytes have changed.
        """
        found = self._find(sha256)
        if found is not None:
            return found
        with self._lock:
            verifying = self._verifying.setdefault(sha256, threading.Lock())
        with verifying:
            try:
                return self._find(sha256) or self._verify(sha256)
            finally:
                with self._lock:
                    self._verifying.pop(sha256, None)

    def _find(self, sha256: str) -> Path | None:
        with self._lock:
            known = self._known.get(sha256)
        if known is None:
            return None
        path, signature = known
        return path if _sign(path) == signature else None

    def _verify(self, sha256: str) -> Path:
        path = self._blobs.fetch(sha256)
        signature = _sign(path)
        if signature is not None:
            with self._lock:
                self._known[sha256] = path, signature
                if len(self._known) > _MAX_KNOWN:
                    self._known.popitem(last=False)
        return path


def _sign(path: Path) -> _Signature | None:
    """Return what changes when a file is replaced or written to; None if it is gone."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
