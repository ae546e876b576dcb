"""The migrations make the tables that the code declares, on both engines, whoever runs them and how often."""

import subprocess
import sys
from importlib.resources import files

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from registry.database import Database
from registry.tables import Base

MIGRATE = "import sys; from registry.database import Database; Database(sys.argv[1]).migrate()"


def differences(database: Database) -> list[object]:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, Base.metadata))


def downgrade(database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(files("registry") / "migrations"))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")


@pytest.fixture
def unmigrated(empty_url: str) -> Database:
    return Database(empty_url)


def test_migrated_schema_is_what_the_tables_declare(database: Database) -> None:
    assert differences(database) == []


def test_down_and_up_again_gives_the_same_schema(unmigrated: Database) -> None:
    unmigrated.migrate()
    downgrade(unmigrated)
    assert inspect(unmigrated.engine).get_table_names() == ["alembic_version"]
    unmigrated.migrate()
    assert differences(unmigrated) == []
    unmigrated.close()


def test_migrating_twice_changes_nothing(database: Database) -> None:
    database.migrate()
    assert differences(database) == []


def test_processes_that_start_together_migrate_once(empty_url: str) -> None:
    starting = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, empty_url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    errors = [process.communicate(timeout=60)[1] for process in starting]
    assert [process.returncode for process in starting] == [0, 0, 0], errors
    database = Database(empty_url)
    assert differences(database) == []
    database.close()
