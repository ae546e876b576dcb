"""What is deleted is gone with its jobs; what is in use names its users; blobs go once nothing names them."""

import os
import time
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.jobs import JobStatus
from contract.lineage import Lineage
from contract.patch_request import PatchRequest
from registry.blobs import FileBlobStore
from registry.database import Database
from registry.datasets import DatasetContent, DatasetOptions, Datasets
from registry.errors import BlobMissingError, ConflictError, DatasetInUseError, NotFoundError, PatchInUseError
from registry.idempotency import IdempotencyKeys
from registry.jobs import Jobs
from registry.patches import Patches
from registry.removal import Removal
from registry.retention import Garbage, collect_garbage
from registry.tables import DatasetRow, JobEventRow, JobRow, PatchRow
from registry.usage import Usage
from registry.versions import TermSpec, Versions
from tests.registry.rows import ALL_SPLITS, FINGERPRINT, add_base, add_task_vector, add_version, ready_dataset


def _collect(database: Database, blobs: FileBlobStore, *, dry_run: bool = False, grace: float = 0.0) -> Garbage:
    return collect_garbage(database, blobs, 0.0, grace_seconds=grace, dry_run=dry_run)


def _stored(blobs: FileBlobStore, shas: set[str]) -> set[str]:
    return {sha256 for sha256 in shas if blobs.stat(sha256) is not None}


def _upload(session: Session, blobs: FileBlobStore, archive: bytes, options: DatasetOptions | None = None) -> Any:
    sha256 = blobs.put_bytes(archive)
    chosen = options or DatasetOptions()
    return Datasets(session).submit("set", sha256, chosen, "alice", archive_bytes=len(archive))[0]


def _ready(
    database: Database, blobs: FileBlobStore, archive: bytes, options: DatasetOptions | None = None
) -> tuple[str, set[str]]:
    """A data set made from an archive, and the hashes of its shards, which depend on the archive alone."""
    contents = [archive + split.encode() for split in ALL_SPLITS]
    shards = {split: blobs.put_bytes(data) for split, data in zip(ALL_SPLITS, contents, strict=True)}
    content = DatasetContent(
        ("cat",),
        (),
        {split: {"sha256": sha256, "num_images": 1} for split, sha256 in shards.items()},
        {},
        [],
        blob_bytes={sha256: len(data) for sha256, data in zip(shards.values(), contents, strict=True)},
    )
    with database.write() as session:
        row = _upload(session, blobs, archive, options)
        lease = Jobs(session).lease(row.job_id, "a test")
        assert lease is not None
        Jobs(session).succeed(lease)
        Datasets(session).complete(row.id, content)
        return row.id, set(shards.values())


def _set(database: Database, name: str) -> str:
    """A data set without blobs."""
    with database.write() as session:
        row = ready_dataset(session, name)
        lease = Jobs(session).lease(row.job_id, "a test")
        assert lease is not None
        Jobs(session).succeed(lease)
        return row.id


def _delete(database: Database, identifier: str, *, force: bool = False) -> None:
    with database.write() as session:
        Removal(session).delete_dataset(identifier, force=force)


def _patch(database: Database, *tasks: str, **fields: Any) -> tuple[str, str]:
    with database.write() as session:
        add_base(session)
        row = Patches(session).submit(PatchRequest(name="p", tasks=tasks, **fields), "starter", "alice")
        return row.id, row.job_id


def _end(database: Database, job_id: str, *, well: bool = False, **checkpoint: Any) -> None:
    with database.write() as session:
        jobs = Jobs(session)
        lease = jobs.lease(job_id, "a test")
        assert lease is not None
        jobs.save_checkpoint(lease, checkpoint)
        jobs.succeed(lease) if well else jobs.fail(lease, "broken", "It broke.")


def test_a_deleted_data_set_is_gone_with_its_job_and_its_shards_are_freed_by_the_next_collection(
    database: Database, blobs: FileBlobStore
) -> None:
    identifier, shards = _ready(database, blobs, b"archive")
    with database.read() as session:
        job_id = Datasets(session).get(identifier).job_id
    _delete(database, identifier)
    with database.read() as session:
        assert session.get(DatasetRow, identifier) is None
        assert session.get(JobRow, job_id) is None
        assert session.scalars(select(JobEventRow).where(JobEventRow.job_id == job_id)).all() == []
    told = _collect(database, blobs, dry_run=True)
    assert shards <= told.blobs.keys()
    assert _stored(blobs, shards) == shards
    assert _collect(database, blobs) == told
    assert _stored(blobs, shards) == set()
    assert _collect(database, blobs).blobs == {}


def test_the_same_upload_makes_a_deleted_data_set_anew(database: Database, blobs: FileBlobStore) -> None:
    identifier, shards = _ready(database, blobs, b"archive")
    _delete(database, identifier)
    again, _ = _ready(database, blobs, b"archive")
    assert again == identifier
    assert _collect(database, blobs).blobs.keys().isdisjoint(shards)
    assert _stored(blobs, shards) == shards


def test_shards_that_another_data_set_names_stay(database: Database, blobs: FileBlobStore) -> None:
    first, shards = _ready(database, blobs, b"archive")
    _, same = _ready(database, blobs, b"archive", DatasetOptions(templates=("a {}",)))
    assert shards == same
    with database.write() as session:
        source = Datasets(session).get(first)
        content = DatasetContent(("dog",), (), source.shards or {}, {}, [], blob_bytes=source.blob_bytes)
        derived = Datasets(session).derive(source, "derived", content)[0].id
    _delete(database, first)
    _delete(database, same_id := _only_other(database, derived))
    assert same_id != derived
    with database.read() as session:  # it tells of the job that made its shards
        assert Jobs(session).get(Datasets(session).get(derived).job_id)
    assert _collect(database, blobs).blobs.keys().isdisjoint(shards)
    _delete(database, derived)
    assert shards <= _collect(database, blobs).blobs.keys()


def _only_other(database: Database, identifier: str) -> str:
    with database.read() as session:
        return next(row.id for row in Datasets(session).newest() if row.id != identifier)


def test_a_blob_that_was_stored_again_a_moment_ago_is_not_freed(database: Database, blobs: FileBlobStore) -> None:
    identifier, shards = _ready(database, blobs, b"archive")
    long_ago = time.time() - 10_000
    for sha256 in shards:
        os.utime(blobs.fetch(sha256), (long_ago, long_ago))
    _delete(database, identifier)
    about_to_be_named = blobs.put_bytes(b"archivetrain")
    freed = _collect(database, blobs, grace=3600.0).blobs
    assert shards - freed.keys() == {about_to_be_named}
    assert blobs.read(about_to_be_named) == b"archivetrain"


def test_an_upload_that_is_being_read_is_not_deleted(database: Database, blobs: FileBlobStore) -> None:
    with database.write() as session:
        row = _upload(session, blobs, b"archive")
        identifier, job_id, archive = row.id, row.job_id, row.archive_sha256
    with pytest.raises(ConflictError, match=f"{job_id}.*cancel"):
        _delete(database, identifier)
    with database.write() as session:
        Jobs(session).request_cancel(job_id)
    assert archive in _collect(database, blobs).blobs, "what an upload that failed has left is freed"
    _delete(database, identifier)
    with pytest.raises(NotFoundError):
        _delete(database, identifier)


def test_patches_that_use_a_data_set_are_named_and_can_be_overruled_once_they_have_ended(database: Database) -> None:
    task, pool = _set(database, "task"), _set(database, "supported")
    patch_id, job_id = _patch(database, task, supported=(pool,))
    for identifier in (task, pool):
        for force in (False, True):
            with pytest.raises(ConflictError, match=f"{job_id}.*cancel"):
                _delete(database, identifier, force=force)
    _end(database, job_id)
    with pytest.raises(DatasetInUseError, match=patch_id):
        _delete(database, pool)
    _delete(database, pool, force=True)
    with database.write() as session:
        assert Patches(session).get(patch_id).request["supported"] == [pool]
        with pytest.raises(NotFoundError, match=pool):
            Patches(session).require_datasets(patch_id)


def test_at_most_ten_users_are_named(database: Database) -> None:
    task = _set(database, "task")
    for _ in range(12):
        _end(database, _patch(database, task)[1])
    with pytest.raises(DatasetInUseError, match="used by these patches") as caught:
        _delete(database, task)
    assert caught.value.detail.count("pt_") == 10
    assert "and 2 more" in caught.value.detail


def test_a_deleted_patch_takes_its_jobs_its_key_and_what_they_stored(database: Database, blobs: FileBlobStore) -> None:
    task = _set(database, "task")
    patch_id, job_id = _patch(database, task)
    with database.write() as session:
        IdempotencyKeys(session).keep("me", "key", "0" * 64, patch_id)
        with pytest.raises(ConflictError, match=f"{job_id}.*cancel"):
            Removal(session).delete_patch(patch_id)
    vector, curve = blobs.put_bytes(b"vector"), blobs.put_bytes(b"curve")
    _end(database, job_id, task_vectors={task: vector})
    with database.write() as session:
        Patches(session).get(patch_id).report = {"interpolants": {"flat": curve}}
        Removal(session).delete_patch(patch_id)
    with database.read() as session:
        assert session.get(PatchRow, patch_id) is None
        assert session.get(JobRow, job_id) is None
        assert IdempotencyKeys(session).find("me", "key", "0" * 64) is None
    assert _collect(database, blobs).blobs == {vector: 6, curve: 5}


def test_a_patch_with_a_version_names_it(database: Database) -> None:
    task = _set(database, "task")
    patch_id, job_id = _patch(database, task)
    with database.write() as session:
        add_task_vector(session)
        lease = Jobs(session).lease(job_id, "a test")
        assert lease is not None
        made = Versions(session).register(
            name="v",
            base_fingerprint=FINGERPRINT,
            terms=[TermSpec("a" * 64, 1.0)],
            probe=[],
            lineage=Lineage(),
            job_id=job_id,
            patch_id=patch_id,
        )
        version = made.id
        Jobs(session).succeed(lease)
        Versions(session).hold_for_mix([], [], patch_id)
    with pytest.raises(PatchInUseError, match=f": {version}\\."), database.write() as session:
        Removal(session).delete_patch(patch_id)
    with database.write() as session, pytest.raises(NotFoundError, match="pt_none"):
        Versions(session).hold_for_mix([], [], "pt_none")


def test_what_a_cancelled_parallel_patch_has_trained_is_kept_for_a_retry_and_then_freed(
    database: Database, blobs: FileBlobStore
) -> None:
    tasks = [_set(database, name) for name in ("first", "second")]
    _, job_id = _patch(database, *tasks, method="parallel")
    with database.read() as session:
        first = next(part.id for part in Jobs(session).children(job_id) if part.part == tasks[0])
    vector = blobs.put_bytes(b"vector")
    _end(database, first, well=True, task_vectors={tasks[0]: vector})
    assert _collect(database, blobs).blobs == {}
    with database.write() as session:
        Jobs(session).request_cancel(job_id)
    assert collect_garbage(database, blobs, 1000.0, grace_seconds=0.0).blobs == {}, "it can still be retried"
    assert _collect(database, blobs, dry_run=True).blobs == {vector: 6}
    with database.read() as session:
        assert Jobs(session).get(first).checkpoint == {"task_vectors": {tasks[0]: vector}}, "a dry run changes nothing"
    assert _collect(database, blobs).blobs == {vector: 6}
    with pytest.raises(BlobMissingError):
        blobs.read(vector)


def test_checkpoints_of_unfinished_jobs_are_kept(database: Database, blobs: FileBlobStore) -> None:
    task = _set(database, "task")
    vector = blobs.put_bytes(b"vector")
    old, old_job = _patch(database, task)
    _end(database, old_job, task_vectors={task: vector})
    _, job_id = _patch(database, task)
    with database.write() as session:
        lease = Jobs(session).lease(job_id, "a test")
        assert lease is not None
        Jobs(session).save_checkpoint(lease, {"task_vectors": {task: vector}})
        Removal(session).delete_patch(old)
    assert _collect(database, blobs).blobs == {}
    with database.write() as session:
        assert Jobs(session).get(job_id).status == JobStatus.RUNNING


def test_an_owner_is_counted_for_each_blob_once(database: Database, blobs: FileBlobStore) -> None:
    first, shards = _ready(database, blobs, b"archive")
    size = sum(len(blobs.read(sha256)) for sha256 in shards)
    _ready(database, blobs, b"archive", DatasetOptions(templates=("a {}",)))
    with database.write() as session:
        assert Usage(session).stored_bytes("alice") == size
        assert Usage(session).stored_bytes("bob") == 0
        _upload(session, blobs, b"12345")
        job = Jobs(session).create("patch", "pt_1", "alice")
        add_base(session)
        add_version(session)
        Versions(session).add_task_vector(
            sha256="b" * 64, base_fingerprint=FINGERPRINT, num_bytes=7, relative_norm=0.1, job_id=job.id
        )
        assert Usage(session).stored_bytes("alice") == size + 5 + 7
    _delete(database, first)
    with database.read() as session:
        assert Usage(session).stored_bytes("alice") == size + 5 + 7, "the other data set still needs them"
