"""What every process does before it uses the database: wait for it, check it, migrate it.

A new database beside existing blobs means that the database was lost or replaced. Starting with an empty one would
hide that, so nothing starts until an operator decides.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from sqlalchemy import inspect, select
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from registry.blob_stores import has_blobs
from registry.database import Database
from registry.errors import ConfigurationError, DatabaseDamagedError, DatabaseUnavailableError
from registry.faults import classify_fault
from registry.private_files import close_path
from registry.settings import StorageSettings
from registry.tables import VersionRow

WAIT_SECONDS = 30.0
"""How long a process waits at startup for a database that does not respond."""

CHECK_SECONDS = 5.0
"""How long startup waits for the check of SQLite's pages, which reads the whole file; it then continues alongside."""

_PAUSE_SECONDS = 1.0
_MOUNTS = Path("/proc/self/mounts")
_ESCAPED = re.compile(r"\\([0-7]{3})")
_SHARED = (
    "nfs",
    "cifs",
    "smb",
    "fuse.sshfs",
    "fuse.glusterfs",
    "glusterfs",
    "ceph",
    "fuse.ceph",
    "lustre",
    "afs",
    "9p",
)
_log = structlog.get_logger(__name__)


def open_database(url: str) -> Database:
    """Return the database by URL, without connecting.

    Raises:
        ConfigurationError: The URL cannot be read, or its driver is not installed.
    """
    try:
        return Database(url)
    except (ArgumentError, ImportError, ValueError) as error:
        reason = "it is not a SQLAlchemy URL" if isinstance(error, ArgumentError) else _first_line(error)
        raise ConfigurationError(
            f"PAINTBOX_DATABASE_URL: {reason}.",
            "Omit it, or use postgresql+psycopg://user:password@host:5432/name (with the extra `postgres`).",
        ) from error


def prepare_database(
    database: Database,
    settings: StorageSettings,
    *,
    wait_seconds: float = WAIT_SECONDS,
    say: Callable[[str], object] = lambda _: None,
) -> None:
    """Migrate the database to the newest schema, once it responds and has been checked.

    Args:
        wait_seconds: How long to wait for a server that does not respond.
        say: Called with sentences for the operator: why the process waits, and whether the disk is unsuitable.

    Raises:
        ConfigurationError: The database is unusable, damaged, from a newer release, or lost.
        DatabaseUnavailableError: It still does not respond.
    """
    deadline, has_told = time.monotonic() + wait_seconds, False
    _warn_of_shared_disk(database, say)
    while True:
        try:
            return _prepare(database, settings)
        except SQLAlchemyError as error:
            reason = _first_line(getattr(error, "orig", None) or error)
            if not _may_pass(database, error):
                raise ConfigurationError(
                    f"PAINTBOX_DATABASE_URL: the database cannot be used: {reason}.", _advise(error)
                ) from error
            if time.monotonic() >= deadline:
                raise DatabaseUnavailableError(reason) from error
        if not has_told:
            say(f"Waiting for the database: {reason}")
            has_told = True
        time.sleep(_PAUSE_SECONDS)


def _prepare(database: Database, settings: StorageSettings) -> None:
    path = database.sqlite_path
    if path is not None and path.exists():
        _check_pages(path)
        for suffix in ("", "-wal", "-shm"):
            close_path(path.with_name(path.name + suffix))
    revision = database.unknown_revision()
    if revision is not None:
        raise ConfigurationError(
            f"PAINTBOX_DATABASE_URL: the database is of a newer release (its schema is revision {revision[:40]!r}).",
            "Start that release, or restore a backup of the database from before the upgrade.",
        )
    if _is_new(database) and has_blobs(settings):
        raise ConfigurationError(*_lost(settings))
    database.migrate()


def _is_new(database: Database) -> bool:
    """Return whether no API has used the database yet: the first thing an API does is to register a version."""
    if not inspect(database.engine).has_table(VersionRow.__tablename__):
        return True
    with database.read() as session:
        return session.scalar(select(VersionRow.id).limit(1)) is None


def _lost(settings: StorageSettings) -> tuple[str, str]:
    where = settings.blob_url or str(settings.blob_dir)
    return (
        f"PAINTBOX_DATABASE_URL: the database is empty, but {where} contains blobs: it was lost, or it is another one.",
        "Restore it from a backup. To start over without the blobs, use another data directory (and blob "
        f"store), or move {where} away.",
    )


def _warn_of_shared_disk(database: Database, say: Callable[[str], object]) -> None:
    shared = describe_shared_disk(database)
    if shared is not None:
        say(
            f"Warning: {shared}, where SQLite's locks are unreliable and data may be lost. "
            "Use a local disk, or set PAINTBOX_DATABASE_URL to a PostgreSQL server."
        )


def describe_shared_disk(database: Database) -> str | None:
    """Return on which network file system an SQLite database is; None: on none, or it is a server's."""
    path = database.sqlite_path
    kind = find_file_system(path.absolute(), _MOUNTS) if path is not None else None
    if kind is None or not kind.startswith(_SHARED):
        return None
    return f"{path} is on a network file system ({kind})"


def find_file_system(path: Path, mounts: Path) -> str | None:
    """Return the type of the file system that holds a path.

    Args:
        mounts: The system's list of mounts, in the format of Linux's `/proc/self/mounts`.

    Returns:
        Such as `ext4` or `nfs4`; None if unknown.
    """
    try:
        lines = [line.split(" ") for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()]
    except OSError:
        return None
    kinds = {Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), line[1])): line[2] for line in lines}
    return next((kinds[folder] for folder in (path, *path.parents) if folder in kinds), None)


def _check_pages(path: Path) -> None:
    """Reject a SQLite file whose structure is damaged, as far as a check of limited duration finds."""
    found: list[str] = []
    thread = threading.Thread(target=_look_through, args=(path, found), name="paintbox-check", daemon=True)
    thread.start()
    thread.join(CHECK_SECONDS)
    if found:
        raise ConfigurationError(
            f"PAINTBOX_DATABASE_URL: {path} is damaged: {found[0]}.", DatabaseDamagedError("").advice
        )
    if thread.is_alive():
        _log.info("the database check continues in the background", path=str(path))


def _look_through(path: Path, found: list[str]) -> None:
    try:
        connection = sqlite3.connect(path)
        try:
            rows = connection.execute("PRAGMA quick_check(3)").fetchall()
        finally:
            connection.close()
    except sqlite3.OperationalError:  # for example locked; the next user of the file reports it
        return
    except sqlite3.DatabaseError as error:
        rows = [(str(error),)]
    problems = [_first_line(problem) for (problem,) in rows if problem != "ok"]
    found.extend(problems)
    if problems:
        _log.error("the database is damaged", path=str(path), problems=problems)


def _may_pass(database: Database, error: SQLAlchemyError) -> bool:
    if not isinstance(classify_fault(error), DatabaseUnavailableError):
        return False
    return database.sqlite_path is None or "locked" in str(error)


def _advise(error: SQLAlchemyError) -> str:
    fault = classify_fault(error)
    is_damaged = isinstance(fault, DatabaseDamagedError)
    return fault.advice if fault is not None and is_damaged else "Correct it and restart."


def _first_line(value: object) -> str:
    lines = [line for line in str(value).strip().splitlines() if not line.startswith("***")]  # SQLite's heading
    return lines[0].strip().rstrip(".")[:500] if lines else type(value).__name__
