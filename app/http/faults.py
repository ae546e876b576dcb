"""Faults of the disk, as errors that say what to do."""

from __future__ import annotations

import errno
import os

from app.http.errors import StorageUnavailableError
from registry.errors import StorageFullError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_UNAVAILABLE = frozenset(
    {errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENODEV}
)


def storage_fault(error: BaseException | None) -> StorageFullError | StorageUnavailableError | None:
    """Return the error to respond with if an operating system error is about the disk, else None; it names no path.

    For errors of the database see `registry.faults`.
    """
    while error is not None:
        if isinstance(error, StorageFullError | StorageUnavailableError):
            return error
        if isinstance(error, OSError) and error.errno in _FULL:
            return StorageFullError()
        if isinstance(error, OSError) and error.errno in _UNAVAILABLE:
            return StorageUnavailableError(os.strerror(error.errno).lower())
        error = error.__cause__
    return None
