"""What processes that were killed have left in the data directory, and files that are too old to be of use.

Whoever works with temporary files holds a shared lock on the data directory, which the system lets go of however the
process ends. Whoever gets the lock alone knows that every temporary file is a leftover. While others run, only what is
too old to be in use is removed, and the files of jobs that have ended.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from contract.jobs import JobStatus
from registry.database import Database
from registry.errors import NotFoundError
from registry.jobs import Jobs
from registry.settings import StorageSettings

IN_USE_LOCK = "in-use.lock"
JOB_LOG_SECONDS = 30 * 86_400.0
"""A log of a job to which nothing was written for so long is removed."""

_ABANDONED_SECONDS = 86_400.0
_JOB_ID_PREFIX = "job_"


@contextmanager
def hold(settings: StorageSettings) -> Iterator[None]:
    """Protect temporary files in the data directory from `sweep` while the context lasts.

    Yields:
        None: after waiting for a running sweep, if any.
    """
    with _lock_file(settings) as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def sweep(settings: StorageSettings, database: Database | None = None) -> int:
    """Remove temporary files that are no longer used, and return how many files and folders that were.

    Args:
        database: Source of which jobs have ended; None: temporary files of jobs stay while other processes run.
    """
    with _lock_file(settings) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_alone = True
        except BlockingIOError:
            is_alone = False
        removed = _remove(settings.scratch_dir, lambda path: is_alone or _is_over(path, database))
        is_own = settings.blob_dir.is_relative_to(settings.data_dir)  # else other machines may write there
        removed += _remove(settings.blob_dir / "incoming", lambda path: (is_alone and is_own) or _is_abandoned(path))
    return removed + _remove(settings.log_dir / "jobs", lambda path: _is_older(path, JOB_LOG_SECONDS))


def _remove(folder: Path, is_leftover: Callable[[Path], bool]) -> int:
    num_removed = 0
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            with suppress(OSError):  # another process was faster, or owns it
                if is_leftover(path):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                    num_removed += 1
    return num_removed


def _is_over(path: Path, database: Database | None) -> bool:
    """Return whether a temporary file of `scratch/` is of a job that has ended, or is abandoned."""
    if not path.name.startswith(_JOB_ID_PREFIX):
        return _is_abandoned(path)
    if database is None:
        return False
    try:
        with database.read() as session:
            return JobStatus(Jobs(session).get(path.name.partition("-")[0]).status).ended
    except NotFoundError:
        return _is_abandoned(path)


def _is_abandoned(path: Path) -> bool:
    return _is_older(path, _ABANDONED_SECONDS)


def _is_older(path: Path, seconds: float) -> bool:
    return path.lstat().st_mtime < time.time() - seconds


@contextmanager
def _lock_file(settings: StorageSettings) -> Iterator[int]:
    handle = os.open(settings.data_dir / IN_USE_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)
