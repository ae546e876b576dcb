"""Backups over both databases: what is copied, what is refused, and what is left of one that was killed."""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.backups.folder import blob_path, list_snapshots
from registry.backups.manifest import Manifest
from registry.backups.restore import open_snapshot
from registry.blobs import FileBlobStore
from registry.database import Database
from registry.errors import ConfigurationError, DatabaseDamagedError
from registry.integrity import check_database, find_named_blobs
from registry.settings import StorageSettings
from tests.registry.backups import add_dataset, back_up, names_of, restore
from tests.registry.postgres import PostgresServer, _programs
from tests.support.databases import open_migrated

NewDatabase = Callable[[], str]


@pytest.fixture
def settings(database: Database, blobs: FileBlobStore, tmp_path: Path) -> StorageSettings:
    """Those of an installation in `tmp_path`, with PostgreSQL's programs of the server's version on the PATH."""
    given = {} if database.sqlite_path else {"database_url": str(database.engine.url)}
    return StorageSettings.load(data_dir=tmp_path, **given)


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{_programs()}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def new_url(database: Database, request: pytest.FixtureRequest) -> NewDatabase:
    """URLs of empty databases of the same kind; an empty text: an SQLite file in the data directory."""
    if database.sqlite_path:
        return lambda: ""
    server: PostgresServer = request.getfixturevalue("postgres")
    return lambda: server.url(server.create_database())


@pytest.mark.parametrize("target", ["backup", "backup.tar"])
def test_what_was_backed_up_is_restored(
    settings: StorageSettings,
    database: Database,
    blobs: FileBlobStore,
    new_url: NewDatabase,
    tmp_path: Path,
    target: str,
) -> None:
    hashes = add_dataset(database, blobs, "cats")
    unused = blobs.put_bytes(b"named by nothing")
    result = back_up(settings, database, tmp_path / target)
    assert result.damaged == {}
    assert set(result.manifest.blobs) == set(hashes)
    assert result.num_copied == 2
    add_dataset(database, blobs, "too late")

    restored = restore(open_snapshot(tmp_path / target), tmp_path / "new", new_url())
    assert names_of(restored) == ["cats"]
    store = FileBlobStore(tmp_path / "new" / "blobs")
    assert [store.read(sha256) for sha256 in hashes] == [blobs.read(sha256) for sha256 in hashes]
    assert store.stat(unused) is None
    assert [problem for _, problem in check_database(restored) if problem] == []
    restored.close()


def test_a_second_backup_copies_only_what_is_new_and_old_snapshots_go_with_their_blobs(
    settings: StorageSettings, database: Database, blobs: FileBlobStore, new_url: NewDatabase, tmp_path: Path
) -> None:
    target = tmp_path / "backup"
    old = add_dataset(database, blobs, "old")
    first = back_up(settings, database, target)
    new = add_dataset(database, blobs, "new")
    second = back_up(settings, database, target)
    assert (second.num_copied, len(second.manifest.blobs)) == (2, 4)

    restored = restore(open_snapshot(target, first.manifest.name), tmp_path / "first", new_url())
    assert names_of(restored) == ["old"]
    restored.close()

    with database.write() as session:
        session.execute(text("DELETE FROM datasets WHERE name = 'old'"))
    third = back_up(settings, database, target, keep=1)
    assert third.pruned == [first.manifest.name, second.manifest.name]
    assert list_snapshots(target) == [third.manifest.name]
    assert all(blob_path(target, sha256).exists() for sha256 in new)
    assert not any(blob_path(target, sha256).exists() for sha256 in old)
    assert len(list((target / "snapshots").iterdir())) == 2


def test_a_backup_under_writes_is_one_consistent_state(
    settings: StorageSettings, database: Database, blobs: FileBlobStore, new_url: NewDatabase, tmp_path: Path
) -> None:
    has_ended = threading.Event()

    def write() -> None:
        number = 0
        while not has_ended.is_set():
            add_dataset(database, blobs, f"set {number}")
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        results = [back_up(settings, database, tmp_path / "backup") for _ in range(3)]
    finally:
        has_ended.set()
        writer.join()
    rows = [result.manifest.database.rows["datasets"] for result in results]
    assert rows == sorted(rows)
    assert rows[-1] > rows[0]
    assert [result.damaged for result in results] == [{}] * 3
    restored = restore(open_snapshot(tmp_path / "backup"), tmp_path / "new", new_url())
    with restored.read() as session:
        named = find_named_blobs(session)
    store = FileBlobStore(tmp_path / "new" / "blobs")
    shards = [sha256 for sha256, user in named.items() if user.startswith("split")]
    assert len(shards) == 2 * rows[-1]
    assert all(store.read(sha256) for sha256 in shards)
    restored.close()


@pytest.mark.parametrize(("target", "harm"), [("backup", "changed"), ("backup", "lost"), ("backup.tar", "changed")])
def test_a_damaged_blob_of_the_backup_stops_the_restore_and_leaves_nothing(
    settings: StorageSettings,
    database: Database,
    blobs: FileBlobStore,
    new_url: NewDatabase,
    tmp_path: Path,
    target: str,
    harm: str,
) -> None:
    hashes = add_dataset(database, blobs, "cats")
    harmed = blobs.read(hashes[0])
    back_up(settings, database, tmp_path / target)
    if target == "backup.tar":
        archive = (tmp_path / target).read_bytes()
        other = harmed[:-1] + bytes([harmed[-1] ^ 1])
        (tmp_path / target).write_bytes(archive.replace(harmed, other))
    else:
        path = blob_path(tmp_path / target, hashes[0])
        path.write_bytes(path.read_bytes()[:-1] + b"\0") if harm == "changed" else path.unlink()
    with pytest.raises(ConfigurationError, match=f"1 blobs of the backup are damaged: {hashes[0]}"):
        restore(open_snapshot(tmp_path / target), tmp_path / "new", new_url())
    assert not list((tmp_path / "new").iterdir())

    restored = restore(open_snapshot(tmp_path / target), tmp_path / "new", new_url(), skips_damaged=True)
    assert names_of(restored) == ["cats"]
    assert FileBlobStore(tmp_path / "new" / "blobs").stat(hashes[0]) is None
    restored.close()


def test_a_check_of_the_backup_copies_a_damaged_blob_again(
    settings: StorageSettings, database: Database, blobs: FileBlobStore, tmp_path: Path
) -> None:
    hashes = add_dataset(database, blobs, "cats")
    target = tmp_path / "backup"
    back_up(settings, database, target)
    path = blob_path(target, hashes[0])
    path.write_bytes(bytes(path.stat().st_size))
    assert back_up(settings, database, target).num_copied == 0
    assert back_up(settings, database, target, check=True).num_copied == 1
    assert hashlib.sha256(path.read_bytes()).hexdigest() == hashes[0]


def test_a_blob_that_the_installation_lost_is_named_and_the_rest_is_backed_up(
    settings: StorageSettings, database: Database, blobs: FileBlobStore, tmp_path: Path
) -> None:
    hashes = add_dataset(database, blobs, "cats")
    blobs.delete(hashes[0])
    changed = blobs.fetch(hashes[1])
    changed.write_bytes(b"something else")
    kept = add_dataset(database, blobs, "dogs")
    result = back_up(settings, database, tmp_path / "backup")
    assert set(result.damaged) == set(hashes)
    assert all("data set" in user for user in result.damaged.values())
    assert set(result.manifest.blobs) == set(kept)
    assert result.manifest.missing == result.damaged


def test_nothing_is_overwritten(
    settings: StorageSettings, database: Database, blobs: FileBlobStore, new_url: NewDatabase, tmp_path: Path
) -> None:
    add_dataset(database, blobs, "cats")
    back_up(settings, database, tmp_path / "backup")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine").write_text("precious")
    with pytest.raises(ConfigurationError, match="is not empty"):
        restore(open_snapshot(tmp_path / "backup"), taken, new_url())
    assert (taken / "mine").read_text() == "precious"
    if database.sqlite_path is None:
        with pytest.raises(ConfigurationError, match="the database is not empty"):
            restore(open_snapshot(tmp_path / "backup"), tmp_path / "new", str(database.engine.url))
        assert names_of(database) == ["cats"]
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "photo.jpg").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="is not a backup folder"):
        back_up(settings, database, strange)


def test_a_backup_of_a_newer_release_is_refused(
    settings: StorageSettings, database: Database, blobs: FileBlobStore, new_url: NewDatabase, tmp_path: Path
) -> None:
    name = back_up(settings, database, tmp_path / "backup").manifest.name
    path = tmp_path / "backup" / "snapshots" / f"{name}.json"
    manifest = Manifest.model_validate_json(path.read_bytes())
    newer = manifest.model_copy(update={"database": manifest.database.model_copy(update={"revision": "9999"})})
    path.write_text(newer.model_dump_json())
    with pytest.raises(ConfigurationError, match="of a newer release: its schema is revision '9999'"):
        restore(open_snapshot(tmp_path / "backup"), tmp_path / "new", new_url())
    assert not (tmp_path / "new").exists()


def test_a_damaged_copy_of_the_database_is_refused(
    settings: StorageSettings, database: Database, blobs: FileBlobStore, new_url: NewDatabase, tmp_path: Path
) -> None:
    add_dataset(database, blobs, "cats")
    name = back_up(settings, database, tmp_path / "backup").manifest.name
    path = tmp_path / "backup" / "snapshots" / f"{name}.database"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(ConfigurationError, match="The database of the backup is damaged"):
        restore(open_snapshot(tmp_path / "backup"), tmp_path / "new", new_url())
    assert not list((tmp_path / "new").iterdir())


def test_a_restore_of_an_older_schema_brings_it_up_to_date(
    settings: StorageSettings, sqlite_database: Database, blobs: FileBlobStore, tmp_path: Path
) -> None:
    """What a release two revisions ago backed up, as its manifest and its tables would say."""
    if settings.database_url:
        pytest.skip("the same code over PostgreSQL")
    from alembic import command

    from registry.backups.hashing import hash_file
    from registry.database import _alembic_config

    old = Database(f"sqlite:///{tmp_path / 'old.db'}")
    config = _alembic_config()
    with old.engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0027")
    old.close()
    name = back_up(settings, sqlite_database, tmp_path / "backup").manifest.name
    folder = tmp_path / "backup" / "snapshots"
    (folder / f"{name}.database").write_bytes((tmp_path / "old.db").read_bytes())
    manifest = Manifest.model_validate_json((folder / f"{name}.json").read_bytes())
    stored = {"revision": "0027", "sha256": hash_file(folder / f"{name}.database")}
    changed = manifest.model_copy(update={"database": manifest.database.model_copy(update=stored)})
    (folder / f"{name}.json").write_text(changed.model_dump_json())
    restored = restore(open_snapshot(tmp_path / "backup"), tmp_path / "new", "")
    assert restored.revision() == sqlite_database.revision()
    restored.close()


def test_a_damaged_database_is_not_copied_over_good_snapshots(tmp_path: Path) -> None:
    database = open_migrated(tmp_path / "paintbox.db")
    settings = StorageSettings.load(data_dir=tmp_path)
    add_dataset(database, FileBlobStore(tmp_path / "blobs"), "cats")
    good = back_up(settings, database, tmp_path / "backup").manifest.name
    database.close()
    data = bytearray((tmp_path / "paintbox.db").read_bytes())
    data[4096:12288] = os.urandom(8192)
    (tmp_path / "paintbox.db").write_bytes(data)
    broken = Database(settings.resolved_database_url)
    with pytest.raises(DatabaseDamagedError):
        back_up(settings, broken, tmp_path / "backup")
    broken.close()
    assert list_snapshots(tmp_path / "backup") == [good]


def test_without_its_programs_postgres_is_refused_in_one_sentence(
    postgres_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    settings = StorageSettings.load(data_dir=tmp_path, database_url=str(postgres_database.engine.url))
    with pytest.raises(ConfigurationError, match="`pg_dump` is not on the PATH"):
        back_up(settings, postgres_database, tmp_path / "backup")
    assert list_snapshots(tmp_path / "backup") == []


def test_a_full_data_disk_is_noticed_before_anything_is_copied(
    settings: StorageSettings,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    new_url: NewDatabase,
) -> None:
    back_up(settings, database, tmp_path / "backup")
    snapshot = open_snapshot(tmp_path / "backup")
    huge = snapshot.manifest.database.model_copy(update={"num_bytes": 1 << 60})
    snapshot.manifest = snapshot.manifest.model_copy(update={"database": huge})
    with pytest.raises(ConfigurationError, match="bytes free, and the backup needs"):
        restore(snapshot, tmp_path / "new", new_url())
    assert not (tmp_path / "new").exists()
