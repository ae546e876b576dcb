"""What a failing database means: which faults are temporary, which need an operator, and how each is reported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from registry.errors import DatabaseDamagedError, DatabaseUnavailableError, RegistryError, StorageFullError

_SQLITE_AWAY = {
    5: "it is locked by another program",  # SQLITE_BUSY
    6: "it is locked by another program",  # SQLITE_LOCKED
    8: "it is read-only",  # SQLITE_READONLY
    10: "its disk reports an error",  # SQLITE_IOERR
    14: "its file cannot be opened",  # SQLITE_CANTOPEN
}
_SQLITE_FULL, _SQLITE_DAMAGED = 13, frozenset({11, 26})  # SQLITE_FULL; SQLITE_CORRUPT, SQLITE_NOTADB
_POSTGRES_FULL = "53100"
_POSTGRES_AWAY = {
    "08": "the connection failed",
    "40": "it reported a conflict with other transactions",  # serialisation failure, deadlock
    "53": "it has run out of resources, such as connections",
    "55": "a lock timed out",
    "57": "it is stopping or starting",
    "58": "its disk reports an error",
}
_POSTGRES_STANDBY = "25006"  # read-only transaction: a standby that was not promoted
_POSTGRES_DAMAGED = frozenset({"XX001", "XX002"})


def classify_fault(error: SQLAlchemyError) -> RegistryError | None:
    """Return the meaning of a database error, for the caller.

    Returns:
        An error that names the cause without the statement or its parameters; None for a bug of ours, such as a
        violated constraint.
    """
    raised: BaseException | None = error
    while raised is not None:
        fault = _classify(raised) if isinstance(raised, SQLAlchemyError) else None
        if fault is not None:
            return fault
        raised = raised.__cause__ or raised.__context__
    return None


def _classify(error: SQLAlchemyError) -> RegistryError | None:
    if isinstance(error, PoolTimeoutError):
        return DatabaseUnavailableError("all connections of this process are in use")
    if not isinstance(error, DBAPIError):
        return None
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return _classify_sqlite(code & 0xFF)
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return _classify_postgres(state)
    is_away = error.connection_invalidated or type(error.orig).__name__ in ("OperationalError", "InterfaceError")
    return DatabaseUnavailableError("it does not respond") if is_away else None


def _classify_sqlite(code: int) -> RegistryError | None:
    if code == _SQLITE_FULL:
        return StorageFullError("the disk of the database is full")
    if code in _SQLITE_DAMAGED:
        return DatabaseDamagedError("its pages cannot be read")
    return DatabaseUnavailableError(_SQLITE_AWAY[code]) if code in _SQLITE_AWAY else None


def _classify_postgres(state: str) -> RegistryError | None:
    if state == _POSTGRES_FULL:
        return StorageFullError("the disk of the database is full")
    if state == _POSTGRES_STANDBY:
        return DatabaseUnavailableError("it is a read-only standby")
    if state in _POSTGRES_DAMAGED:
        return DatabaseDamagedError("the server reports damaged data or indexes")
    cause = _POSTGRES_AWAY.get(state[:2])
    return DatabaseUnavailableError(cause) if cause else None


@contextmanager
def faults_named() -> Iterator[None]:
    """Raise the meaning of a database error in place of it while the context lasts; other errors pass.

    Yields:
        None: While the database is used.
    """
    try:
        yield
    except SQLAlchemyError as error:
        fault = classify_fault(error)
        if fault is None:
            raise
        raise fault from error
