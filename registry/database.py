"""Connections and transactions. SQLite by default, Postgres by URL, the same code over both.

A read transaction sees one snapshot. A write transaction takes SQLite's write lock at its start (`BEGIN IMMEDIATE`),
so it never fails half-way because another process wrote first; it waits for its turn instead.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.orm import Session

LOCK_WAIT_SECONDS = 30
_RETRY_SECONDS = 0.02
_POOL_WAIT_SECONDS = 10
_POSTGRES_WAITS = {  # of libpq; what the URL says itself counts. A server that has gone is noticed within seconds
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
_MIGRATION_LOCK = 7_216_083  # any constant; Postgres advisory locks are numbers
_START_LOCK = 7_216_084


def utc_now() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


class Database:
    """A database by URL.

    Args:
        url: SQLAlchemy URL, such as `sqlite:////data/paintbox.db` or `postgresql+psycopg://…`.
    """

    def __init__(self, url: str) -> None:
        self.engine = _create_engine(url)
        self._reading = self.engine
        if self.engine.dialect.name == "postgresql":  # whose default lets each statement see newer rows than the last
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ")

    @property
    def sqlite_path(self) -> Path | None:
        """The file of an SQLite database; None: it is a server's, or lies in memory."""
        url = self.engine.url
        is_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
        return Path(str(url.database)) if is_file else None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Yield a session over one snapshot; whatever it changed is dropped."""
        with Session(self._reading, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Yield a session that commits when the block ends well and rolls back when it raises."""
        writing = self.engine.execution_options(paintbox_write=True)
        with Session(writing, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def write_alone(self) -> Iterator[Session]:
        """Yield a session as `write` does, while no other process writes with this method: what is looked up stays."""
        with self.write() as session:
            if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time anyway
                session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _START_LOCK})
            yield session

    def migrate(self) -> None:
        """Bring the schema to the newest revision; safe when several processes start at once."""
        config = _alembic_config()
        writing = self.engine.execution_options(paintbox_write=True)
        with writing.connect() as connection, connection.begin():
            if connection.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL lock_timeout = 0"))  # another process may be at it
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def unknown_revision(self) -> str | None:
        """Return the schema's revision if this release does not know it, because a newer one made it."""
        with self.engine.connect() as connection:
            heads = MigrationContext.configure(connection).get_current_heads()
        known = known_revisions()
        return next((revision for revision in heads if revision not in known), None)

    def revision(self) -> str | None:
        """Return the schema's revision; None: there is no schema yet."""
        with self.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    def server_time(self) -> datetime:
        """Return the present moment by the clock of the machine that the database runs on."""
        with self.engine.connect() as connection:
            if connection.dialect.name != "postgresql":
                return utc_now()
            moment = connection.scalar(text("SELECT clock_timestamp()"))
        assert isinstance(moment, datetime)
        return moment

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def known_revisions() -> frozenset[str]:
    """Return the revisions of the schema that this release can bring up to date."""
    return frozenset(script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions())


def newest_revision() -> str:
    """Return the revision of the schema that this release writes."""
    newest = ScriptDirectory.from_config(_alembic_config()).get_current_head()
    assert newest is not None
    return newest


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("registry") / "migrations"))
    return config


def _create_engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        given = {name: value for name, value in _POSTGRES_WAITS.items() if name not in parsed.query}
        engine = create_engine(
            parsed, pool_pre_ping=True, pool_timeout=_POOL_WAIT_SECONDS, hide_parameters=True, connect_args=given
        )
        event.listen(engine, "connect", _prepare_postgres)
        return engine
    waits = {"timeout": LOCK_WAIT_SECONDS, "check_same_thread": False}
    engine = create_engine(parsed, hide_parameters=True, connect_args=waits)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_postgres(connection: Any, _record: object) -> None:
    """Let no statement wait for a lock without end, as SQLite does not."""
    connection.autocommit = True  # else the setting would end with the first transaction that is rolled back
    connection.execute(f"SET lock_timeout = '{LOCK_WAIT_SECONDS}s'")
    connection.autocommit = False


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not open transactions behind our back
    _switch_to_wal(connection)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _switch_to_wal(connection: Any) -> None:
    """Switch a database file to WAL. SQLite does not wait for its lock here, as it does everywhere else, so we do."""
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("paintbox_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
