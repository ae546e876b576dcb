"""Databases to test over: every test that asks for `database` or `empty_url` runs on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete

from registry.blobs import FileBlobStore
from registry.database import Database
from registry.tables import Base
from tests.registry.clock import Clock
from tests.registry.postgres import PostgresServer
from tests.support.databases import open_migrated

ENGINES = ("sqlite", "postgres")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> Iterator[Database]:
    """One database for all tests: making one takes longer than most of them."""
    database = Database(postgres.url(postgres.create_database()))
    database.migrate()
    yield database
    database.close()


@pytest.fixture(params=ENGINES)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'paintbox.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    database = open_migrated(tmp_path / "paintbox.db")
    yield database
    database.close()


@pytest.fixture
def postgres_database(migrated_postgres: Database) -> Iterator[Database]:
    yield migrated_postgres
    with migrated_postgres.write() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(delete(table))


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest) -> Database:
    """A migrated, empty database."""
    made: Database = request.getfixturevalue(f"{request.param}_database")
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobStore:
    return FileBlobStore(tmp_path / "blobs")
