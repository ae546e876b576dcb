"""Putting a snapshot into a new installation. Every byte is verified while it is copied.

The blobs come first and the database last, under its name only when it is whole: a restore that was killed leaves a
data directory with blobs and without a database, in which no process starts.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from registry.backups.database_copy import count_rows, is_empty, kind_of, restore_dump
from registry.backups.folder import FolderSnapshot
from registry.backups.hashing import copy_and_hash
from registry.backups.manifest import Manifest
from registry.backups.tar_file import TarSnapshot
from registry.blob_stores import has_blobs
from registry.blobs import FileBlobStore, sync
from registry.database import Database, known_revisions
from registry.errors import ConfigurationError
from registry.faults import faults_named
from registry.keys import are_keys_required
from registry.settings import StorageSettings

_SHOWN = 5


class Snapshot(Protocol):
    """A snapshot that can be read."""

    manifest: Manifest

    def open_database(self) -> AbstractContextManager[BinaryIO]:
        """Yield the copy of the database, open for reading."""

    def open_blob(self, sha256: str) -> AbstractContextManager[BinaryIO]:
        """Yield a blob, open for reading; `FileNotFoundError`: it is not there."""

    def close(self) -> None:
        """Close the file, if one was opened; it is opened again when something is read."""


@dataclass(frozen=True)
class RestoreResult:
    """What a restore did.

    Attributes:
        num_blobs: Blobs that were copied.
        skipped: Damaged or missing blobs of the backup, by hash: what is wrong. Empty unless they were to be skipped.
    """

    num_blobs: int
    skipped: dict[str, str]


def open_snapshot(path: Path, name: str | None = None) -> Snapshot:
    """Return a snapshot of a backup folder, or that of a file.

    Args:
        name: Which snapshot of a folder; None: the newest.

    Raises:
        ConfigurationError: There is none, or the file is not whole.
    """
    return FolderSnapshot.open(path, name) if path.is_dir() else TarSnapshot.open(path)


def restore_backup(
    snapshot: Snapshot,
    settings: StorageSettings,
    database: Database,
    *,
    skips_damaged: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> RestoreResult:
    """Fill an empty data directory and an empty database from a snapshot; the schema is then brought up to date.

    Args:
        settings: The new installation's.
        database: The new installation's, without tables.
        skips_damaged: Whether to restore the rest if blobs of the backup are damaged.

    Raises:
        ConfigurationError: Something is in the way, the backup is of a newer release, or it is damaged.
    """
    manifest = snapshot.manifest
    _require_known(manifest)
    with faults_named():
        _require_empty(settings, database, manifest)
    _require_room(settings, manifest)
    try:
        settings.make_directories()
        result = _copy_blobs(snapshot, settings, skips_damaged)
        say(f"Copied {result.num_blobs:,} blobs, {sum(manifest.blobs.values()):,} bytes; their hashes are right.")
        with faults_named():
            _put_database(snapshot, settings, database)
            _compare_rows(database, manifest)
    except BaseException:
        database.close()
        _remove_restored(settings, database)
        raise
    finally:
        snapshot.close()
    with faults_named():
        database.migrate()
        are_keys_required(database, settings.keys_file)
    num_rows = sum(manifest.database.rows.values())
    say(f"Restored the database: {num_rows:,} rows of revision {manifest.database.revision}.")
    return result


def _copy_blobs(snapshot: Snapshot, settings: StorageSettings, skips_damaged: bool) -> RestoreResult:
    wrong: dict[str, str] = {}
    if snapshot.manifest.bucket is None:
        store = FileBlobStore(settings.blob_dir)
        for sha256 in snapshot.manifest.blobs:
            problem = _copy_blob(snapshot, store, sha256)
            if problem is not None:
                wrong[sha256] = problem
    if wrong and not skips_damaged:
        shown = "; ".join(f"{sha256} {problem}" for sha256, problem in list(wrong.items())[:_SHOWN])
        raise ConfigurationError(
            f"{len(wrong)} blobs of the backup are damaged: {shown}.",
            "Use another snapshot or an older backup. To restore all the rest, add --skip-damaged.",
        )
    return RestoreResult(len(snapshot.manifest.blobs) - len(wrong), wrong)


def _copy_blob(snapshot: Snapshot, store: FileBlobStore, sha256: str) -> str | None:
    """Copy a blob into the store; return what is wrong with it, if anything is."""
    try:
        with store.incoming() as incoming, snapshot.open_blob(sha256) as source:
            actual = copy_and_hash(source, incoming)
            if actual != sha256:
                return f"has the hash {actual}"
            store.adopt(incoming, sha256)
    except FileNotFoundError:
        return "is missing"
    except tarfile.TarError as error:
        return f"cannot be read: {error}"
    return None


def _put_database(snapshot: Snapshot, settings: StorageSettings, database: Database) -> None:
    stored, path = snapshot.manifest.database, database.sqlite_path
    partial = settings.scratch_dir / "restored-database" if path is None else path.with_name(f"{path.name}.restored")
    try:
        with snapshot.open_database() as source:
            partial.touch(mode=0o600)
            actual = copy_and_hash(source, partial)
        if actual != stored.sha256:
            raise ConfigurationError(
                f"The database of the backup is damaged: its hash is {actual}.", "Use another snapshot."
            )
        if path is None:
            restore_dump(database, partial)
        else:
            sync(partial)
            partial.replace(path)
            sync(path.parent)
    except (FileNotFoundError, tarfile.TarError) as error:
        raise ConfigurationError(
            f"The database of the backup cannot be read: {error}.", "Use another snapshot."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _compare_rows(database: Database, manifest: Manifest) -> None:
    with database.read() as session:
        rows = count_rows(session)
    if rows != manifest.database.rows:
        wrong = sorted(table for table, number in manifest.database.rows.items() if rows.get(table) != number)
        raise ConfigurationError(
            f"The restored database has other numbers of rows than the backup says, in {', '.join(wrong)}.",
            "Use another snapshot.",
        )


def _require_known(manifest: Manifest) -> None:
    revision = manifest.database.revision
    if revision not in known_revisions():
        raise ConfigurationError(
            f"The backup is of a newer release: its schema is revision {revision[:40]!r}, made by Paintbox "
            f"{manifest.paintbox[:40]}.",
            "Restore it with that release or a newer one.",
        )


def _require_empty(settings: StorageSettings, database: Database, manifest: Manifest) -> None:
    folder = settings.data_dir
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(
            f"{folder} is not empty, and a restore overwrites nothing.", "Name a new or an empty folder."
        )
    if kind_of(database) != manifest.database.kind:
        raise ConfigurationError(
            f"The backup is of a {manifest.database.kind} database, and PAINTBOX_DATABASE_URL is of another kind.",
            "Set PAINTBOX_DATABASE_URL to a new database of that kind; for SQLite, omit it.",
        )
    if not is_empty(database):
        raise ConfigurationError(
            "PAINTBOX_DATABASE_URL: the database is not empty, and a restore overwrites nothing.",
            "Create a new database for it.",
        )
    if (manifest.bucket is not None) != settings.is_bucket:
        where = f"in {manifest.bucket}" if manifest.bucket else "in the backup itself"
        raise ConfigurationError(
            f"PAINTBOX_BLOB_URL: the blobs are {where}.",
            "Set it to the bucket, or to a copy of it." if manifest.bucket else "Omit it, or name a folder.",
        )
    if manifest.bucket is None and settings.blob_dir.exists() and has_blobs(settings):
        raise ConfigurationError(f"PAINTBOX_BLOB_URL: {settings.blob_dir} is not empty.", "Name an empty folder.")


def _require_room(settings: StorageSettings, manifest: Manifest) -> None:
    folder = next(path for path in (settings.data_dir, *settings.data_dir.absolute().parents) if path.exists())
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < manifest.num_bytes:
        raise ConfigurationError(
            f"{folder} has {free_bytes:,} bytes free, and the backup needs {manifest.num_bytes:,}.", "Free disk space."
        )


def _remove_restored(settings: StorageSettings, database: Database) -> None:
    """Remove what a failed restore has written: the data directory and the database were empty before."""
    written = list(settings.data_dir.iterdir()) if settings.data_dir.is_dir() else []
    if not settings.is_bucket:
        written += [settings.blob_dir / name for name in ("sha256", "incoming")]
    if database.sqlite_path is not None:
        written += [database.sqlite_path.with_name(database.sqlite_path.name + end) for end in ("", "-wal", "-shm")]
    for path in written:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
