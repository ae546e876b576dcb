"""What an error means for a job: the job fails, or it is retried because something is unavailable."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

from safetensors import SafetensorError
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from contract.jobs import JobKind
from paint_core.errors import PaintCoreError
from registry.errors import BlobStoreUnreachableError, DatabaseUnavailableError, RegistryError, StorageFullError
from registry.faults import classify_fault
from registry.plain_text import MAX_DETAIL, clean_text
from worker.messages import Failure, Setback

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeoutError)
"""Errors of a database that is unavailable or temporarily read-only."""

MOST_SETBACKS = 20
"""Pauses in a row after which a job fails: about three hours."""

_MAY_SAY_FULL = (OSError, RuntimeError, BlobStoreUnreachableError, SafetensorError, *DATABASE_AWAY)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_AWAY = frozenset({errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN})
_SAYS_FULL = re.compile(r"no space left on device|disk is full|disk quota exceeded|file or disk is full", re.IGNORECASE)
_SAYS_OUT_OF_DEVICE_MEMORY = re.compile(
    r"CUDA(?: driver)? error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|HIP out of memory"
)
_SAYS_OUT_OF_MEMORY = re.compile(r"can't allocate memory|std::bad_alloc", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w/.])/(?:[^/\s'\"<>,;]{1,255}/){1,64}[^/\s'\"<>,;:)]{0,255}")
_FIRST_PAUSE_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 600.0


def describe_fault(error: BaseException, kind: JobKind) -> Failure | Setback:
    """Return why the job cannot be done, or, if the job is not to blame, that it is to be retried."""
    is_ours = isinstance(error, PaintCoreError | RegistryError)
    setback = next((found for each in _causes(error) if (found := _setback(each))), None)
    if setback is not None and (
        not is_ours or setback.cause == "disk_full" or isinstance(error, BlobStoreUnreachableError)
    ):
        return setback
    if isinstance(error, PaintCoreError | RegistryError):
        return Failure(error.code, clean_text(str(error)))
    if any(_is_out_of_device_memory(each) for each in _causes(error)):
        advice = "Use a smaller batch_size, a smaller base, or a device that is not shared."
        return Failure("out_of_memory", f"The device ran out of memory. {advice}")
    if any(_is_out_of_memory(each) for each in _causes(error)):
        return Failure("out_of_memory", f"The trainer ran out of memory. {_memory_advice(kind)}")
    what = hide_paths(f"{type(error).__name__}: {str(error)[:MAX_DETAIL]}")
    return Failure("internal_error", clean_text(f"{what}. See the log of the job."))


def pause_seconds(num_setbacks: int) -> float:
    """Return how long a job pauses after so many setbacks before this one."""
    return float(min(_FIRST_PAUSE_SECONDS * 2.0 ** min(num_setbacks, 16), _LONGEST_PAUSE_SECONDS))


def hide_paths(text: str) -> str:
    """Return the text with absolute paths shortened to their last part, because callers must not see them."""
    return _PATH.sub(lambda found: f"…/{os.path.basename(found[0])}", text)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, the database driver's error, and what it was raised from."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _setback(error: BaseException) -> Setback | None:
    fault = classify_fault(error) if isinstance(error, SQLAlchemyError) else error
    number = error.errno if isinstance(error, OSError) else None
    says_full = isinstance(error, _MAY_SAY_FULL) and _SAYS_FULL.search(str(error)[:MAX_DETAIL])
    if number in _FULL or isinstance(fault, StorageFullError) or says_full:
        advice = "Free disk space; the job is retried automatically."
        return Setback("disk_full", f"The disk of the service is full. {advice}")
    if isinstance(fault, DatabaseUnavailableError) or isinstance(error, DATABASE_AWAY):
        return Setback("store_unavailable", "The database is unavailable. The job is retried automatically.")
    if isinstance(fault, BlobStoreUnreachableError) or number in _AWAY:
        what = "The storage of the service is unavailable."
        return Setback("store_unavailable", f"{what} The job is retried automatically.")
    return None


def _is_out_of_device_memory(error: BaseException) -> bool:
    """Return whether a device's memory ran out; by name, so that torch need not be imported."""
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and bool(_SAYS_OUT_OF_DEVICE_MEMORY.search(str(error)[:MAX_DETAIL]))


def _is_out_of_memory(error: BaseException) -> bool:
    says = isinstance(error, RuntimeError) and bool(_SAYS_OUT_OF_MEMORY.search(str(error)[:MAX_DETAIL]))
    return says or isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def _memory_advice(kind: JobKind) -> str:
    if kind is JobKind.INGEST:
        return "Upload smaller files, or ask the operator to increase PAINTBOX_INGEST_MEMORY_BYTES."
    return "Use a smaller batch_size or a machine with more memory."
