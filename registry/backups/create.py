"""Making a snapshot of an installation in use: the database first, then the blobs that this copy needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from sqlalchemy.orm import Session

from registry.backups.database_copy import copy_database, count_rows, kind_of
from registry.backups.hashing import hash_file
from registry.backups.manifest import Manifest, StoredDatabase
from registry.database import Database, newest_revision, utc_now
from registry.errors import ConfigurationError
from registry.faults import faults_named
from registry.integrity import find_named_blobs
from registry.settings import StorageSettings
from registry.unused_blobs import UnusedBlobs

_ASKED_AT_ONCE = 5000  # blobs in one question to the database, which bounds values in a statement


class BackupWriter(Protocol):
    """Where a snapshot is written."""

    @property
    def new_path(self) -> Path:
        """Path for the database's copy while it is written."""

    def locked(self) -> AbstractContextManager[BackupWriter]:
        """Hold it while a snapshot is written; what was written is dropped unless `finish` was called."""

    def has(self, sha256: str, num_bytes: int) -> bool:
        """Return whether it holds a blob of this size."""

    def is_intact(self, sha256: str) -> bool:
        """Return whether the bytes of a blob in it still have its hash."""

    def add_blob(self, sha256: str, source: Path) -> bool:
        """Copy a blob and return whether its bytes have its hash; `FileNotFoundError`: it is not there."""

    def finish(self, manifest: Manifest) -> None:
        """Add the database's copy and the manifest."""

    def prune(self, num_kept: int) -> list[str]:
        """Delete all but the newest snapshots and what only they need; return their names."""


@dataclass(frozen=True)
class BackupResult:
    """What a backup did.

    Attributes:
        manifest: Of the new snapshot.
        num_copied: Blobs that were copied; the others were in the backup already.
        copied_bytes: Their size.
        damaged: Blobs that the database needs and that are missing or damaged in the store: what refers to each.
        pruned: Names of older snapshots that were deleted.
    """

    manifest: Manifest
    num_copied: int
    copied_bytes: int
    damaged: dict[str, str]
    pruned: list[str]


@dataclass(frozen=True)
class _Copied:
    """What the copied state of the database says.

    Attributes:
        rows: Number of rows by table.
        named: Blobs that it needs: what refers to each.
        used: Blobs in the folder that anything refers to, those of unfinished and of failed jobs too.
    """

    rows: dict[str, int]
    named: dict[str, str]
    used: frozenset[str]


def create_backup(
    settings: StorageSettings,
    database: Database,
    writer: BackupWriter,
    *,
    num_kept: int,
    checks_all: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> BackupResult:
    """Write a snapshot and return what was done.

    Args:
        settings: Where the blobs are; those of a bucket are not copied.
        num_kept: How many snapshots a folder keeps, the new one included; at least 1.
        checks_all: Whether to read blobs that are in the backup already, and to copy damaged ones again.
        say: Called with sentences about the progress.

    Raises:
        ConfigurationError: The database is of another release, or cannot be copied.
        DatabaseDamagedError: The database is damaged, so its copy would be.
    """
    _require_there(database)
    with faults_named():
        created_at, revision = utc_now(), _current_revision(database)
    with writer.locked(), faults_named():
        copied = copy_database(database, writer.new_path, partial(_look, settings))
        stored = StoredDatabase(
            kind=kind_of(database),
            revision=revision,
            sha256=hash_file(writer.new_path),
            num_bytes=writer.new_path.stat().st_size,
            rows=copied.rows,
        )
        say(f"Copied the database: {stored.num_bytes:,} bytes, {sum(stored.rows.values()):,} rows.")
        blobs = _BlobCopies(settings, writer, checks_all)
        if not settings.is_bucket:
            for sha256 in sorted(copied.used | set(copied.named)):
                blobs.copy(sha256)
        missing = {sha256: user for sha256, user in copied.named.items() if sha256 in blobs.failed}
        manifest = Manifest(
            created_at=created_at,
            paintbox=version("paintbox"),
            database=stored,
            blobs=blobs.sizes,
            missing=missing,
            bucket=settings.blob_url if settings.is_bucket else None,
        )
        writer.finish(manifest)
        pruned = writer.prune(num_kept)
    damaged = _still_named(database, missing) if missing else {}
    return BackupResult(manifest, blobs.num_copied, blobs.copied_bytes, damaged, pruned)


class _BlobCopies:
    """Copies blobs from the store's folder, and remembers which could not be copied."""

    def __init__(self, settings: StorageSettings, writer: BackupWriter, checks_all: bool) -> None:
        self._root = settings.blob_dir
        self._writer = writer
        self._checks_all = checks_all
        self.sizes: dict[str, int] = {}
        self.failed: set[str] = set()
        self.num_copied = 0
        self.copied_bytes = 0

    def copy(self, sha256: str) -> None:
        """Copy a blob, unless the backup has it."""
        path = self._root / "sha256" / sha256[:2] / sha256
        try:
            num_bytes = path.stat().st_size
            has_it = self._writer.has(sha256, num_bytes) and (not self._checks_all or self._writer.is_intact(sha256))
            if not has_it and not self._writer.add_blob(sha256, path):
                self.failed.add(sha256)
                return
        except FileNotFoundError:  # freed since the database was copied, or lost
            self.failed.add(sha256)
            return
        self.sizes[sha256] = num_bytes
        if not has_it:
            self.num_copied += 1
            self.copied_bytes += num_bytes


def _look(settings: StorageSettings, session: Session) -> _Copied:
    stored = () if settings.is_bucket else tuple(_list_blobs(settings.blob_dir))
    return _Copied(count_rows(session), find_named_blobs(session), frozenset(_used(session, stored)))


def _list_blobs(root: Path) -> Iterator[str]:
    """Yield the names of all blobs in a store's folder."""
    for path in (root / "sha256").glob("*/*"):
        yield path.name


def _used(session: Session, stored: tuple[str, ...]) -> Iterator[str]:
    """Yield those of the stored blobs that a row refers to, as garbage collection sees it."""
    unused = UnusedBlobs(session)
    for start in range(0, len(stored), _ASKED_AT_ONCE):
        some = stored[start : start + _ASKED_AT_ONCE]
        yield from set(some) - unused.unnamed(some)


def _still_named(database: Database, missing: dict[str, str]) -> dict[str, str]:
    """Return the missing blobs that the database still needs; others were deleted while the backup ran."""
    with database.read() as session:
        return {sha256: user for sha256, user in find_named_blobs(session).items() if sha256 in missing}


def _require_there(database: Database) -> None:
    path = database.sqlite_path
    if path is not None and not path.exists():
        raise ConfigurationError(f"PAINTBOX_DATA_DIR: there is no database at {path}.", "Name another data directory.")


def _current_revision(database: Database) -> str:
    """Return the schema's revision, which must be this release's, because its rows are read."""
    revision, newest = database.revision(), newest_revision()
    if revision != newest:
        found = f"revision {revision}" if revision else "empty"
        raise ConfigurationError(
            f"PAINTBOX_DATABASE_URL: the database is {found}; this release writes revision {newest}.",
            "Make the backup with the release that uses the database.",
        )
    return newest
