"""Backups that are killed, and blobs that are elsewhere."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from registry.backups.folder import FolderSnapshot, list_snapshots
from registry.backups.restore import open_snapshot, restore_backup
from registry.blob_stores import open_blobs
from registry.blobs import FileBlobStore
from registry.database import Database
from registry.errors import ConfigurationError
from registry.settings import StorageSettings
from tests.registry.backups import add_dataset, back_up, names_of, restore
from tests.registry.s3 import S3Server
from tests.support.databases import open_migrated

PROGRAM = "import typer; from paintbox_launcher.backups import backup; typer.run(backup)"


def test_a_killed_backup_leaves_the_earlier_one_and_the_next_one_goes_on(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "backup"
    settings = StorageSettings.load(data_dir=data)
    settings.make_directories()
    database = open_migrated(data / "paintbox.db")
    blobs = FileBlobStore(settings.blob_dir)
    add_dataset(database, blobs, "old")
    first = back_up(settings, database, target).manifest.name
    many = add_dataset(database, blobs, "many", num_blobs=300, size=200_000)

    command = [sys.executable, "-c", PROGRAM, str(target), "--data-dir", str(data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(list((target / "blobs").glob("sha256/*/*"))) < 10:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    num_copied = len(list((target / "blobs").glob("sha256/*/*")))
    assert 10 <= num_copied < len(many)
    assert list_snapshots(target) == [first]

    restored = restore(FolderSnapshot.open(target), tmp_path / "restored", "")
    assert names_of(restored) == ["old"]
    restored.close()

    again = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert again.returncode == 0, again.stderr
    snapshot = FolderSnapshot.open(target)
    assert len(snapshot.manifest.blobs) == len(many) + 2
    assert f"of which {len(many) + 2 - num_copied:,} were copied" in again.stdout
    assert not (target / "incoming").exists()
    restored = restore(snapshot, tmp_path / "whole", "")
    assert names_of(restored) == ["many", "old"]
    restored.close()
    database.close()


def test_blobs_of_a_bucket_stay_there_and_the_restore_looks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paintbox_launcher.verification import verify_installation

    (tmp_path / "s3").mkdir()
    server = S3Server(tmp_path / "s3")
    try:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        settings = StorageSettings.load(data_dir=tmp_path / "data", blob_url=server.new_url())
        settings.make_directories()
        database, blobs = open_migrated(settings.data_dir / "paintbox.db"), open_blobs(settings)
        kept, lost = add_dataset(database, blobs, "cats")
        result = back_up(settings, database, tmp_path / "backup")
        assert (result.manifest.bucket, result.manifest.blobs) == (settings.blob_url, {})
        blobs.delete(lost)
        with pytest.raises(ConfigurationError, match="the blobs are in s3://"):
            restore(open_snapshot(tmp_path / "backup"), tmp_path / "wrong", "")
        new = StorageSettings.load(data_dir=tmp_path / "new", blob_url=settings.blob_url)
        restored = Database(new.resolved_database_url)
        restore_backup(open_snapshot(tmp_path / "backup"), new, restored)
        found = {each.name: each.ok for each in verify_installation(new, restored) if each.what == "blob"}
        assert (found[kept], found[lost]) == (True, False)
        restored.close()
        database.close()
    finally:
        server.stop()
