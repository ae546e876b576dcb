"""A content-addressed store: an object's name is the SHA-256 of its bytes.

An object is written to a temporary file, synced, then renamed, so that a name never refers to a partial object. Every
read verifies the hash.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from registry.errors import BlobCorruptError, BlobMissingError

_CHUNK_BYTES = 1 << 20
_RENEWED_AFTER_SECONDS = 600.0


@dataclass(frozen=True)
class BlobInfo:
    """What is known about an object without reading it.

    Attributes:
        stored_at: When its bytes were last stored, in seconds since the epoch.
    """

    num_bytes: int
    stored_at: float


class BlobStore(Protocol):
    """Operations of a blob store."""

    def put_bytes(self, data: bytes) -> str:
        """Store `data` and return its SHA-256 in hex; storing the same bytes again changes nothing."""

    def put_file(self, path: Path) -> str:
        """Store a copy of the file and return its SHA-256 in hex."""

    def read(self, sha256: str) -> bytes:
        """Return the object's verified bytes."""

    def fetch(self, sha256: str) -> Path:
        """Return a local file with the object's verified bytes; it must not be changed."""

    def delete(self, sha256: str) -> None:
        """Remove the object if it is there."""

    def stat(self, sha256: str) -> BlobInfo | None:
        """Return the object's size and age, or None if it is not there.

        Storing existing bytes renews an object that is older than ten minutes: a reference to it is about to be
        written, so it must not be deleted as unused.
        """


class FileBlobStore:
    """A blob store in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put_bytes(self, data: bytes) -> str:
        """Store `data` and return its SHA-256 in hex; storing the same bytes again changes nothing."""
        return self._put(lambda target: target.write(data), hashlib.sha256(data).hexdigest())

    def put_file(self, path: Path) -> str:
        """Store a copy of the file and return its SHA-256 in hex."""
        with path.open("rb") as source:
            sha256 = hashlib.file_digest(source, "sha256").hexdigest()
            source.seek(0)
            return self._put(lambda target: shutil.copyfileobj(source, target, _CHUNK_BYTES), sha256)

    def read(self, sha256: str) -> bytes:
        """Return the object's bytes, which hash to its name (64 hex digits)."""
        path = self._existing(sha256)
        data = path.read_bytes()
        _verify(sha256, hashlib.sha256(data).hexdigest())
        return data

    def fetch(self, sha256: str) -> Path:
        """Return the object's file, once its bytes are verified; the file must not be changed."""
        path = self._existing(sha256)
        _verify(sha256, _hash_file(path))
        return path

    def delete(self, sha256: str) -> None:
        """Remove the object if it is there."""
        self._path(sha256).unlink(missing_ok=True)

    def stat(self, sha256: str) -> BlobInfo | None:
        """Return the object's size and when it was last stored, or None if it is not there."""
        try:
            status = self._path(sha256).stat()
        except FileNotFoundError:
            return None
        return BlobInfo(status.st_size, status.st_mtime)

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """Yield a new temporary path in the store for an unfinished object; it is removed afterwards."""
        path = self._incoming / secrets.token_hex(16)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def adopt(self, incoming: Path, sha256: str) -> Path:
        """Rename a finished file from `incoming` to an object, durably and without a copy.

        Args:
            sha256: Hash of its bytes, computed by the caller.
        """
        path = self._path(sha256)
        self._make_folder(path.parent)
        sync(incoming)
        incoming.replace(path)
        sync(path.parent)
        return path

    def _path(self, sha256: str) -> Path:
        assert len(sha256) == 64, sha256
        return self._root / "sha256" / sha256[:2] / sha256

    def _existing(self, sha256: str) -> Path:
        path = self._path(sha256)
        if not path.is_file():
            raise BlobMissingError(sha256)
        return path

    def _make_folder(self, folder: Path) -> None:
        """Make the folder durable before an object in it is reported as stored."""
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for changed in (folder.parent, self._root):
                sync(changed)

    def _put(self, write: Callable[[BinaryIO], object], sha256: str) -> str:
        path = self._path(sha256)
        if _is_intact(path, sha256) and _renew(path):
            return sha256
        with self.incoming() as incoming:
            with incoming.open("wb") as target:
                write(target)
            self.adopt(incoming, sha256)
        return sha256


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, durable: a rename in it then survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_intact(path: Path, sha256: str) -> bool:
    """Return whether the object exists and is intact; a damaged one is replaced."""
    try:
        return _hash_file(path) == sha256
    except FileNotFoundError:
        return False


def _renew(path: Path) -> bool:
    """Renew the object's timestamp if it is old; return False if it has just been deleted."""
    try:
        if path.stat().st_mtime < time.time() - _RENEWED_AFTER_SECONDS:
            os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:  # owned by another user, or read-only: nothing is deleted there either
        return True
    return True


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(expected: str, actual: str) -> None:
    if actual != expected:
        raise BlobCorruptError(expected, actual)
