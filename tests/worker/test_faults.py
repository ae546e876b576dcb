"""What errors mean for a job: a fault of its own, or something that passes."""

import errno

import pytest
from sqlalchemy.exc import OperationalError

from contract.jobs import JobKind
from paint_core.errors import HeadError
from registry.errors import BlobMissingError, BlobStoreUnreachableError
from worker.faults import describe_fault, hide_paths, pause_seconds
from worker.messages import Failure, Setback


def chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def database_error(text: str) -> OperationalError:
    return OperationalError("INSERT …", {}, Exception(text))


class OutOfMemoryError(RuntimeError):
    """As torch calls its own."""


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/srv/data/blobs/x"), "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full"),
        (RuntimeError("unexpected pos 64 vs 0: No space left on device"), "disk_full"),
        (database_error("database or disk is full"), "disk_full"),
        (chained(ValueError("cannot save"), OSError(errno.ENOSPC, "No space left on device")), "disk_full"),
        (chained(HeadError("cannot save"), OSError(errno.ENOSPC, "No space left on device")), "disk_full"),
        (OSError(errno.EROFS, "Read-only file system", "/srv/data/blobs/x"), "store_unavailable"),
        (database_error("server closed the connection unexpectedly"), "store_unavailable"),
        (database_error("database is locked"), "store_unavailable"),
        (BlobStoreUnreachableError("timeout"), "store_unavailable"),
    ],
)
def test_what_the_machine_lacks_for_now_is_a_setback_without_a_path(error: Exception, cause: str) -> None:
    told = describe_fault(error, JobKind.PATCH)
    assert isinstance(told, Setback)
    assert told.cause == cause
    assert "/srv" not in told.detail
    assert "retried automatically" in told.detail


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        chained(ValueError("a step failed"), OutOfMemoryError("HIP out of memory")),
    ],
)
def test_a_device_out_of_memory_is_told_with_what_to_do(error: Exception) -> None:
    told = describe_fault(error, JobKind.PATCH)
    assert isinstance(told, Failure)
    assert told.code == "out_of_memory"
    assert "device ran out of memory" in told.detail
    assert "batch_size" in told.detail


def test_memory_that_runs_out_is_told_with_advice_for_the_kind_of_job() -> None:
    cannot_allocate = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")
    for error in (MemoryError(), cannot_allocate, OSError(errno.ENOMEM, "Cannot allocate memory")):
        ingest, patch = describe_fault(error, JobKind.INGEST), describe_fault(error, JobKind.PATCH)
        assert isinstance(ingest, Failure)
        assert isinstance(patch, Failure)
        assert ingest.code == patch.code == "out_of_memory"
        assert "PAINTBOX_INGEST_MEMORY_BYTES" in ingest.detail
        assert "batch_size" in patch.detail


def test_errors_of_ours_keep_their_codes_and_others_are_internal_without_paths() -> None:
    missing = describe_fault(BlobMissingError("ab" * 32), JobKind.PATCH)
    assert isinstance(missing, Failure)
    assert missing.code == "blob_missing"
    bug = describe_fault(
        FileNotFoundError(errno.ENOENT, "No such file", "/srv/secret place/data/x.bin"), JobKind.INGEST
    )
    assert isinstance(bug, Failure)
    assert bug.code == "internal_error"
    assert "/srv" not in bug.detail
    assert len(describe_fault(ValueError("x" * 10**7), JobKind.PATCH).detail) <= 2_000


def test_paths_are_replaced_by_their_last_part() -> None:
    assert hide_paths("open '/srv/data/blobs/ab.bin': no") == "open '…/ab.bin': no"
    assert hide_paths("no path: 3/4, and/or") == "no path: 3/4, and/or"


def test_pauses_grow_up_to_ten_minutes() -> None:
    assert [pause_seconds(number) for number in (0, 1, 2, 10, 1_000)] == [30, 60, 120, 600, 600]
