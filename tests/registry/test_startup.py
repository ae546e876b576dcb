"""A database that is damaged, lost, too new or away is told so at the start, in one line that says what to do."""

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.blobs import FileBlobStore
from registry.database import Database
from registry.errors import ConfigurationError, DatabaseUnavailableError
from registry.settings import StorageSettings
from registry.startup import find_file_system, open_database, prepare_database
from tests.registry.rows import add_version
from tests.registry.test_private_files import mode_of

PAGE = 4096


@pytest.fixture
def settings(tmp_path: Path) -> StorageSettings:
    made = StorageSettings.load(data_dir=tmp_path / "data")
    made.make_directories()
    return made


def prepare(settings: StorageSettings, url: str | None = None) -> None:
    database = open_database(url or settings.resolved_database_url)
    try:
        prepare_database(database, settings, wait_seconds=0)
    finally:
        database.close()


def refusal(settings: StorageSettings, url: str | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        prepare(settings, url)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    return message


def use(settings: StorageSettings) -> Path:
    """The file of a database that an API has used, with something in it and in the blobs."""
    prepare(settings)
    database = Database(settings.resolved_database_url)
    with database.write() as session:
        add_version(session)
        session.execute(text("CREATE TABLE filler (name TEXT PRIMARY KEY, value TEXT)"))  # pages enough to damage one
        for number in range(2000):
            session.execute(text("INSERT INTO filler VALUES (:name, :name)"), {"name": f"{number}" * 10})
    database.close()
    FileBlobStore(settings.blob_dir).put_bytes(b"something")
    return settings.data_dir / "paintbox.db"


def test_a_new_installation_and_one_that_was_used_start(settings: StorageSettings) -> None:
    use(settings)
    prepare(settings)


@pytest.mark.parametrize("loss", ["emptied", "deleted", "replaced by a new one"])
def test_an_empty_database_beside_blobs_is_refused_again_and_again(settings: StorageSettings, loss: str) -> None:
    path = use(settings)
    path.unlink()
    if loss == "emptied":
        path.touch()
    elif loss == "replaced by a new one":
        elsewhere = StorageSettings.load(data_dir=settings.data_dir / "elsewhere")
        elsewhere.make_directories()
        prepare(elsewhere)
        shutil.copy(elsewhere.data_dir / "paintbox.db", path)
    for _ in range(2):
        message = refusal(settings)
        assert "Restore it from a backup" in message
        assert f"move {settings.blob_dir} away" in message

    settings.blob_dir.rename(settings.data_dir / "old-blobs")  # as it says
    prepare(settings)


def test_an_empty_database_of_a_server_beside_blobs_is_refused(settings: StorageSettings, empty_url: str) -> None:
    FileBlobStore(settings.blob_dir).put_bytes(b"something")
    assert "it was lost, or it is another one" in refusal(settings, empty_url)


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 // PAGE * PAGE + 100)


def zero_a_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // PAGE * PAGE)
        file.write(bytes(PAGE))


def flip_a_bit(path: Path) -> None:
    """In the header of an interior page of the largest table: the kind of the page."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // PAGE * PAGE)
        kind = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([kind ^ 0x04]))


def overwrite_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"not SQLite at all, but something else")


@pytest.mark.parametrize("damage", [truncate, zero_a_page, flip_a_bit, overwrite_header])
def test_a_damaged_database_is_refused(settings: StorageSettings, damage: Callable[[Path], None]) -> None:
    path = use(settings)
    damage(path)
    message = refusal(settings)
    assert "paintbox.db is damaged" in message
    assert "restore it from a backup" in message


def test_a_database_of_a_newer_release_is_refused(settings: StorageSettings, empty_url: str) -> None:
    prepare(settings, empty_url)
    database = Database(empty_url)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    message = refusal(settings, empty_url)
    assert "of a newer release" in message
    assert "'9999'" in message


@pytest.mark.parametrize(
    "url",
    ["banana", "mysql://a/b", "postgresql+psycopg://host:port/name", "sqlite:////nowhere/at/all.db"],
)
def test_a_url_that_cannot_be_used_names_the_variable(settings: StorageSettings, url: str) -> None:
    assert "PAINTBOX_DATABASE_URL" in refusal(settings, url)


def test_a_server_that_is_away_is_waited_for_and_then_said_to_be_away(settings: StorageSettings) -> None:
    database = open_database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    said: list[str] = []
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailableError, match="Connection refused"):
        prepare_database(database, settings, wait_seconds=1.5, say=said.append)
    assert time.monotonic() - started >= 1.5
    (line,) = said
    assert line.startswith("Waiting for the database: ")


def test_a_database_that_is_locked_for_a_while_is_waited_for(settings: StorageSettings) -> None:
    path = use(settings)
    holder = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.5, lambda: (holder.execute("ROLLBACK"), holder.close()))
    timer.start()
    prepare(settings)
    timer.join()


def test_a_database_file_that_others_could_read_is_closed_to_them(settings: StorageSettings) -> None:
    path = use(settings)
    path.chmod(0o644)
    prepare(settings, f"sqlite:///{path}")
    assert mode_of(path) == 0o600


@pytest.mark.parametrize("name", ["a b", "ümläut", "100%", "what?", "a#b", "it's", "%20"])
def test_a_data_directory_may_have_any_name(tmp_path: Path, name: str) -> None:
    settings = StorageSettings.load(data_dir=tmp_path / name)
    settings.make_directories()
    prepare(settings)
    assert (tmp_path / name / "paintbox.db").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_network_file_system_is_found_out(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda1 / ext4 rw 0 0\nserver:/home /mnt/my\\040home nfs4 rw 0 0\n//nas/x /mnt/x cifs rw 0 0\n"
    )
    assert find_file_system(Path("/var/lib/paintbox.db"), mounts) == "ext4"
    assert find_file_system(Path("/mnt/my home/me/paintbox.db"), mounts) == "nfs4"
    assert find_file_system(Path("/mnt/x"), mounts) == "cifs"
    assert find_file_system(Path("/mnt/x"), tmp_path / "nothing") is None


def test_a_backup_that_is_made_while_others_write_starts_elsewhere(settings: StorageSettings, tmp_path: Path) -> None:
    """As docs/operations.md has it: the database by SQLite's own copy, then the blobs."""
    path = use(settings)
    database, stop = Database(settings.resolved_database_url), threading.Event()

    def go_on_writing() -> None:
        while not stop.is_set():
            with database.write() as session:
                session.execute(text("UPDATE filler SET value = value || '.'"))

    writer = threading.Thread(target=go_on_writing)
    writer.start()
    restored = StorageSettings.load(data_dir=tmp_path / "restored")
    restored.make_directories()
    try:
        with (
            closing(sqlite3.connect(path)) as source,
            closing(sqlite3.connect(restored.data_dir / "paintbox.db")) as copy,
        ):
            source.backup(copy)
    finally:
        stop.set()
        writer.join()
        database.close()
    shutil.copytree(settings.blob_dir, restored.blob_dir, dirs_exist_ok=True)
    prepare(restored)
    moved = settings.data_dir.rename(tmp_path / "moved")
    prepare(StorageSettings.load(data_dir=moved))
