"""Consistent copies of a database in use, and the way back.

SQLite is copied through its backup interface and PostgreSQL by `pg_dump` within one exported snapshot. What the copy
refers to is read from that same state, so writes during the backup change nothing in it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from sqlalchemy import inspect, text
from sqlalchemy.orm import Session

from registry.backups.manifest import DatabaseKind
from registry.database import Database
from registry.errors import ConfigurationError, DatabaseDamagedError

_REVISIONS = "alembic_version"
_MAX_REASON = 500
_Found = TypeVar("_Found")


def kind_of(database: Database) -> DatabaseKind:
    """Return which kind of database it is.

    Raises:
        ConfigurationError: Of no kind that can be backed up.
    """
    dialect = database.engine.dialect.name
    if dialect == "postgresql":
        return "postgresql"
    if database.sqlite_path is not None:
        return "sqlite"
    raise ConfigurationError(f"PAINTBOX_DATABASE_URL: {dialect} databases of this kind cannot be backed up.")


def copy_database(database: Database, target: Path, look: Callable[[Session], _Found]) -> _Found:
    """Copy a database to a new file, and return what `look` finds in the state that was copied.

    Args:
        target: SQLite file or PostgreSQL dump; must not exist.
        look: Reads the copied state.

    Raises:
        ConfigurationError: `pg_dump` is not installed or rejects the server.
        DatabaseDamagedError: The pages of the SQLite file are damaged.
    """
    path = database.sqlite_path
    if path is None:
        return _dump(database, target, look)
    _copy_sqlite(path, target)
    copy = Database(f"sqlite:///{quote(str(target))}")
    try:
        with copy.read() as session:
            found = look(session)
    finally:
        copy.close()
    _make_single_file(target)
    return found


def restore_dump(database: Database, dump: Path) -> None:
    """Fill an empty PostgreSQL database from a dump, in one transaction.

    Raises:
        ConfigurationError: `pg_restore` is not installed, or fails.
    """
    command = [_find_program("pg_restore"), "--exit-on-error", "--no-owner", "--no-privileges", "--single-transaction"]
    _run([*command, "--dbname", _connection_text(database), str(dump)], database)


def is_empty(database: Database) -> bool:
    """Return whether a database has no tables; an SQLite file need not exist."""
    path = database.sqlite_path
    if path is not None and not path.exists():
        return True
    return not inspect(database.engine).get_table_names()


def count_rows(session: Session) -> dict[str, int]:
    """Return the number of rows of each table, except for Alembic's."""
    tables = sorted(set(inspect(session.connection()).get_table_names()) - {_REVISIONS})
    quoted = {table: session.connection().dialect.identifier_preparer.quote(table) for table in tables}
    return {table: int(session.scalar(text(f"SELECT count(*) FROM {name}")) or 0) for table, name in quoted.items()}


def _copy_sqlite(path: Path, target: Path) -> None:
    """Copy all pages in one step, which reads one snapshot and blocks no writer in WAL mode."""
    target.touch(mode=0o600, exist_ok=False)
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=30)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
            problems = [row[0] for row in copy.execute("PRAGMA quick_check(3)") if row[0] != "ok"]
    except sqlite3.OperationalError as error:
        raise ConfigurationError(f"PAINTBOX_DATABASE_URL: {path} cannot be read: {error}.") from error
    except sqlite3.DatabaseError as error:
        raise DatabaseDamagedError(str(error)) from error
    if problems:
        raise DatabaseDamagedError(str(problems[0]))


def _make_single_file(path: Path) -> None:
    """Take the copy out of WAL mode, so that it is one file whose hash stays."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


def _dump(database: Database, target: Path, look: Callable[[Session], _Found]) -> _Found:
    program = _find_program("pg_dump")
    with database.read() as session:  # REPEATABLE READ: everything in it sees the exported snapshot
        snapshot = session.scalar(text("SELECT pg_export_snapshot()"))
        command = [program, "--format", "custom", "--no-owner", "--no-privileges", "--snapshot", str(snapshot)]
        _run([*command, "--file", str(target), "--dbname", _connection_text(database)], database)
        return look(session)


def _find_program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ConfigurationError(
            f"`{name}` is not on the PATH, and a PostgreSQL database needs it.",
            "Install PostgreSQL's client programs, of the server's major version or newer, or use pg_dump where the "
            "server runs: see docs/operations.md, Backup.",
        )
    return found


def _parameters(database: Database) -> dict[str, str]:
    """Return libpq's parameters of a database's URL, without what only this process needs."""
    url = database.engine.url
    _, parameters = database.engine.dialect.create_connect_args(url)
    return {name: str(value) for name, value in parameters.items() if value is not None}


def _connection_text(database: Database) -> str:
    """Return libpq's connection string without the password, because every user can read command lines."""
    from psycopg.conninfo import make_conninfo

    shown = {name: value for name, value in _parameters(database).items() if name not in ("password", "context")}
    return make_conninfo("", **shown)


def _run(command: list[str], database: Database) -> None:
    password = _parameters(database).get("password")
    environment = os.environ | ({"PGPASSWORD": password} if password else {})
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.strip()), f"status {done.returncode}")
        raise ConfigurationError(
            f"{Path(command[0]).name} failed: {reason[:_MAX_REASON]}.", "Correct it and start again."
        )
