"""A backup folder: `snapshots/TIME.json`, the copies of the database beside them, and `blobs/`, which they share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from registry.backups.hashing import copy_and_hash, hash_file
from registry.backups.manifest import Manifest, read_manifest
from registry.blobs import sync
from registry.errors import ConfigurationError

_SNAPSHOTS, _BLOBS, _INCOMING, _LOCK = "snapshots", "blobs/sha256", "incoming", "backup.lock"
_OURS = frozenset({_SNAPSHOTS, "blobs", _INCOMING, _LOCK})


class BackupFolder:
    """Writes snapshots into a folder; only one process does at a time.

    Args:
        root: Empty, new, or a backup folder.
        hard_links: Whether to link blobs in place of copying them, where the file system allows it.
    """

    def __init__(self, root: Path, *, hard_links: bool = False) -> None:
        self._root = root
        self._hard_links = hard_links

    @contextmanager
    def locked(self) -> Iterator[BackupFolder]:
        """Hold the folder while the context lasts, without what an earlier, killed backup has left.

        Yields:
            BackupFolder: itself.

        Raises:
            ConfigurationError: Another backup is running, or the folder holds something else.
        """
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        strange = sorted(path.name for path in self._root.iterdir() if path.name not in _OURS)
        if strange:
            raise ConfigurationError(
                f"{self._root} is not a backup folder: it contains {strange[0]!r}.", "Use an empty or a new folder."
            )
        lock = FileLock(self._root / _LOCK, timeout=0, mode=0o600)
        try:
            lock.acquire()
        except Timeout as error:
            raise ConfigurationError(f"Another backup is writing to {self._root}.", "Wait until it ends.") from error
        try:
            shutil.rmtree(self._root / _INCOMING, ignore_errors=True)
            for name in (_SNAPSHOTS, _BLOBS, _INCOMING):
                (self._root / name).mkdir(parents=True, exist_ok=True, mode=0o700)
            yield self
        finally:
            shutil.rmtree(self._root / _INCOMING, ignore_errors=True)
            lock.release()

    @property
    def new_path(self) -> Path:
        """Path of the database's copy while it is written."""
        return self._root / _INCOMING / "database"

    def has(self, sha256: str, num_bytes: int) -> bool:
        """Return whether the folder holds a blob of this size; its bytes were verified when they were copied."""
        try:
            return blob_path(self._root, sha256).stat().st_size == num_bytes
        except FileNotFoundError:
            return False

    def is_intact(self, sha256: str) -> bool:
        """Return whether the bytes of a blob in the folder still have its hash."""
        return hash_file(blob_path(self._root, sha256)) == sha256

    def add_blob(self, sha256: str, source: Path) -> bool:
        """Copy a blob, and return whether its bytes have its hash; if not, nothing is added.

        Raises:
            FileNotFoundError: It is not there.
        """
        target, incoming = blob_path(self._root, sha256), self._root / _INCOMING / sha256
        if not (self._hard_links and _link(source, incoming)):
            with source.open("rb") as file:
                actual = copy_and_hash(file, incoming)
        else:
            actual = hash_file(incoming)
        if actual != sha256:
            incoming.unlink()
            return False
        _adopt(incoming, target)
        return True

    def finish(self, manifest: Manifest) -> None:
        """Add the database's copy and then the manifest, which makes the snapshot a whole one."""
        folder = self._root / _SNAPSHOTS
        _adopt(self.new_path, folder / f"{manifest.name}.database")
        partial = self._root / _INCOMING / "manifest"
        partial.write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        _adopt(partial, folder / f"{manifest.name}.json")

    def prune(self, num_kept: int) -> list[str]:
        """Delete all but the newest snapshots and the blobs that those do not need; return the deleted ones' names."""
        names = list_snapshots(self._root)
        gone = names[:-num_kept]
        for name in gone:  # the manifest first: without its database, a snapshot must not look whole
            (self._root / _SNAPSHOTS / f"{name}.json").unlink()
        kept = [FolderSnapshot.open(self._root, name).manifest for name in names[-num_kept:]]
        databases = {f"{manifest.name}.database" for manifest in kept}
        for path in (self._root / _SNAPSHOTS).glob("*.database"):
            if path.name not in databases:
                path.unlink()
        needed = {sha256 for manifest in kept for sha256 in manifest.blobs}
        for path in (self._root / _BLOBS).glob("*/*"):
            if path.name not in needed:
                path.unlink()
        return gone


class FolderSnapshot:
    """A snapshot in a backup folder, to read it."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self._root = root
        self.manifest = manifest

    @classmethod
    def open(cls, root: Path, name: str | None = None) -> FolderSnapshot:
        """Return a snapshot by name; None: the newest one.

        Raises:
            ConfigurationError: There is no such snapshot, or its manifest is damaged.
        """
        names = list_snapshots(root)
        if not names or (name is not None and name not in names):
            found = f"it has {', '.join(names[-10:])}" if names else "it has none"
            raise ConfigurationError(
                f"{root} has no {f'snapshot {name!r}' if name else 'snapshot'}; {found}.",
                "Name a backup folder or file that `paintbox backup` wrote.",
            )
        path = root / _SNAPSHOTS / f"{name or names[-1]}.json"
        return cls(root, read_manifest(path.read_bytes(), str(path)))

    @contextmanager
    def open_database(self) -> Iterator[BinaryIO]:
        """Yield the copy of the database, open for reading."""
        with (self._root / _SNAPSHOTS / f"{self.manifest.name}.database").open("rb") as file:
            yield file

    @contextmanager
    def open_blob(self, sha256: str) -> Iterator[BinaryIO]:
        """Yield a blob, open for reading."""
        with blob_path(self._root, sha256).open("rb") as file:
            yield file

    def close(self) -> None:
        """Do nothing: no file stays open."""


def list_snapshots(root: Path) -> list[str]:
    """Return the names of a backup folder's snapshots, oldest first."""
    return sorted(path.stem for path in (root / _SNAPSHOTS).glob("*.json"))


def blob_path(root: Path, sha256: str) -> Path:
    """Return where a backup folder keeps a blob."""
    return root / _BLOBS / sha256[:2] / sha256


def _link(source: Path, target: Path) -> bool:
    with suppress(OSError):  # another file system, or one without links
        os.link(source, target)
        return True
    if not source.exists():
        raise FileNotFoundError(source)
    return False


def _adopt(incoming: Path, target: Path) -> None:
    """Rename a finished file, durably."""
    if not target.parent.is_dir():
        target.parent.mkdir(parents=True, mode=0o700)
        sync(target.parent.parent)
    sync(incoming)
    incoming.replace(target)
    sync(target.parent)
