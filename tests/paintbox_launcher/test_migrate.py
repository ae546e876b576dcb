"""`paintbox migrate` brings a database up to date, and says in one sentence why it cannot."""

from pathlib import Path

from sqlalchemy import text

from registry.database import Database, newest_revision
from tests.paintbox_client.inside import Done, run


def migrate(data_dir: Path) -> Done:
    return run("migrate", "--data-dir", data_dir)


def test_a_new_and_an_old_database_get_the_newest_schema(tmp_path: Path) -> None:
    for _ in range(2):
        done = migrate(tmp_path / "data")
        assert done.status == 0, done.err
        assert newest_revision() in done.out
    database = Database(f"sqlite:///{tmp_path / 'data' / 'paintbox.db'}")
    assert database.revision() == newest_revision()
    database.close()


def test_a_database_of_a_newer_release_is_left_as_it_is(tmp_path: Path) -> None:
    migrate(tmp_path / "data")
    database = Database(f"sqlite:///{tmp_path / 'data' / 'paintbox.db'}")
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    done = migrate(tmp_path / "data")
    assert done.status == 2
    assert "newer release" in done.err
    assert "Traceback" not in done.err
    assert database.revision() == "9999"
    database.close()
