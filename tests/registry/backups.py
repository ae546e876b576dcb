"""Installations to back up, and the way back."""

import secrets
from pathlib import Path

from registry.backups.create import BackupResult, BackupWriter, create_backup
from registry.backups.folder import BackupFolder
from registry.backups.restore import Snapshot, restore_backup
from registry.backups.tar_file import TarFile
from registry.blobs import BlobStore
from registry.database import Database
from registry.datasets import DatasetContent, DatasetOptions, Datasets
from registry.settings import StorageSettings


def add_dataset(database: Database, blobs: BlobStore, name: str, num_blobs: int = 2, size: int = 64) -> list[str]:
    """Store a data set with a blob for each of its splits; returns their hashes."""
    hashes = [blobs.put_bytes(secrets.token_bytes(size)) for _ in range(num_blobs)]
    shards = {f"split{at}": {"sha256": sha256, "num_images": 1} for at, sha256 in enumerate(hashes)}
    content = DatasetContent(("a", "b"), (), shards, {split: {"a": 1} for split in shards}, [])
    with database.write() as session:
        row, _ = Datasets(session).submit(name, secrets.token_hex(32), DatasetOptions())
        Datasets(session).complete(row.id, content)
    return hashes


def back_up(
    settings: StorageSettings, database: Database, target: Path, *, keep: int = 7, check: bool = False
) -> BackupResult:
    writer: BackupWriter = TarFile(target) if target.suffix == ".tar" else BackupFolder(target)
    return create_backup(settings, database, writer, num_kept=keep, checks_all=check)


def restore(snapshot: Snapshot, folder: Path, url: str, **options: bool) -> Database:
    settings = StorageSettings.load(data_dir=folder, **({"database_url": url} if url else {}))
    database = Database(settings.resolved_database_url)
    try:
        restore_backup(snapshot, settings, database, **options)
    except BaseException:
        database.close()
        raise
    return database


def names_of(database: Database) -> list[str]:
    with database.read() as session:
        return [row.name for row in Datasets(session).newest()]
