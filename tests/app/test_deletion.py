"""Deleting data sets and patches over HTTP: who uses them is told, and what nothing needs is freed."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from registry.datasets import Datasets
from registry.jobs import Jobs
from registry.tables import DatasetRow
from tests.app.patched import add_patch
from tests.app.world import World, add_ready_dataset, check_problem
from tests.builders import digit_members, write_zip


def _upload(world: World, path: Path) -> Any:
    with path.open("rb") as file:
        answer = world.client.post("/v1/datasets", files={"archive": file}, data={"name": "digits"})
    assert answer.status_code == 202, answer.text
    return answer.json()


def _age_blobs(world: World) -> None:
    long_ago = time.time() - 10_000
    for path in (world.services.settings.blob_dir / "sha256").glob("*/*"):
        os.utime(path, (long_ago, long_ago))


def test_a_data_set_that_nobody_uses_is_deleted_and_named_no_more(world: World) -> None:
    identifier = add_ready_dataset(world.services, ["zero", "one"])
    question = {"images": [], "dataset": identifier}
    assert world.client.post("/v1/classify", json=question).status_code != 404
    assert world.client.delete(f"/v1/datasets/{identifier}").status_code == 204
    check_problem(world.client.get(f"/v1/datasets/{identifier}"), 404, "not_found")
    check_problem(world.client.delete(f"/v1/datasets/{identifier}"), 404, "not_found")
    assert identifier not in world.client.get("/v1/datasets").text


def test_labels_of_a_deleted_data_set_are_forgotten_at_once(world: World) -> None:
    identifier = add_ready_dataset(world.services, ["zero", "one"])
    picture = digit_members(range(1), train=1)["train/zero/000.png"]
    ask = {"files": {"images": picture}, "data": {"dataset": identifier}}
    assert world.client.post("/v1/classify", **ask).status_code == 200
    world.client.delete(f"/v1/datasets/{identifier}")
    check_problem(world.client.post("/v1/classify", **ask), 404, "not_found")


def test_an_upload_that_is_being_read_is_cancelled_first_and_the_same_bytes_may_come_again(
    world: World, tmp_path: Path
) -> None:
    archive = write_zip(tmp_path / "x.zip", {**digit_members(range(2), train=3, val=1, test=1), "n.txt": b"deleted"})
    dataset = _upload(world, archive)
    problem = check_problem(world.client.delete(f"/v1/datasets/{dataset['id']}"), 409, "conflict")
    assert dataset["job_id"] in problem["detail"]
    assert "cancel" in problem["next"]
    world.client.post(f"/v1/jobs/{dataset['job_id']}/cancel")
    assert world.client.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
    check_problem(world.client.get(f"/v1/jobs/{dataset['job_id']}"), 404, "not_found")
    again = _upload(world, archive)
    assert again["id"] == dataset["id"]
    assert again["job_id"] != dataset["job_id"]
    _age_blobs(world)
    world.client.post("/v1/gc")
    with world.services.database.read() as session:
        archive_sha256 = Datasets(session).get(again["id"]).archive_sha256
    assert world.services.blobs.read(archive_sha256) == archive.read_bytes(), "the new job needs it"


def test_patches_that_use_a_data_set_are_named_and_force_overrules_them(world: World) -> None:
    patch = add_patch(world, seeds=(61,))
    path = f"/v1/datasets/{patch.supported}"
    problem = check_problem(world.client.delete(path), 409, "dataset_in_use")
    assert patch.id in problem["detail"]
    assert "force" in problem["next"]
    assert world.client.delete(path, params={"force": True}).status_code == 204
    assert world.client.get(f"/v1/patches/{patch.id}").json()["request"]["supported"] == [patch.supported]
    assert world.client.post(f"/v1/patches/{patch.id}/reselect", json={"alpha": 0.25}).status_code == 201
    assert world.client.get(f"/v1/versions/{patch.version}").status_code == 200
    assert world.client.get(f"/v1/versions/{patch.version}/export").status_code == 200
    body = {"name": "again", "tasks": [patch.task], "supported": [patch.supported]}
    check_problem(world.client.post("/v1/patches", json=body), 404, "not_found")


def test_evaluations_on_a_data_set_are_named_and_force_overrules_them(world: World) -> None:
    dataset = add_ready_dataset(world.services, ["a"], splits=("test",))
    asked = world.client.post("/v1/evaluations", json={"versions": [1], "dataset": dataset}).json()["evaluation"]
    problem = check_problem(world.client.delete(f"/v1/datasets/{dataset}?force=1"), 409, "conflict")
    assert asked["job_id"] in problem["detail"]
    world.client.post(f"/v1/jobs/{asked['job_id']}/cancel")
    problem = check_problem(world.client.delete(f"/v1/datasets/{dataset}"), 409, "dataset_in_use")
    assert f"used by these evaluations: {asked['id']}" in problem["detail"]
    assert world.client.delete(f"/v1/datasets/{dataset}?force=1").status_code == 204


def test_a_patch_that_cannot_be_retried_for_its_data_set_is_gone_says_so(world: World) -> None:
    task = add_ready_dataset(world.services, ["a"], splits=("train", "validation", "test"))
    patch = world.client.post("/v1/patches", json={"name": "p", "tasks": [task]}).json()["patch"]
    refused = world.client.delete(f"/v1/datasets/{task}?force=1")
    assert patch["job_id"] in check_problem(refused, 409, "conflict")["detail"]
    world.client.post(f"/v1/jobs/{patch['job_id']}/cancel")
    assert world.client.delete(f"/v1/datasets/{task}?force=1").status_code == 204
    check_problem(world.client.post(f"/v1/jobs/{patch['job_id']}/retry"), 404, "not_found")
    assert world.client.get(f"/v1/jobs/{patch['job_id']}").json()["status"] == "cancelled"
    assert world.client.get("/v1/patches").status_code == 200


def test_a_patch_goes_once_its_versions_have_gone_and_its_idempotency_key_is_free(world: World) -> None:
    task = add_ready_dataset(world.services, ["a"], splits=("train", "validation", "test"))
    key, body = {"Idempotency-Key": "deleted"}, {"name": "p", "tasks": [task]}
    patch = world.client.post("/v1/patches", json=body, headers=key).json()["patch"]
    problem = check_problem(world.client.delete(f"/v1/patches/{patch['id']}"), 409, "conflict")
    assert patch["job_id"] in problem["detail"]
    world.client.post(f"/v1/jobs/{patch['job_id']}/cancel")
    assert world.client.delete(f"/v1/patches/{patch['id']}").status_code == 204
    check_problem(world.client.get(f"/v1/patches/{patch['id']}"), 404, "not_found")
    check_problem(world.client.delete(f"/v1/patches/{patch['id']}"), 404, "not_found")
    again = world.client.post("/v1/patches", json=body, headers=key)
    assert again.status_code == 202
    assert again.json()["patch"]["id"] != patch["id"]
    with_version = add_patch(world, seeds=(62,))
    problem = check_problem(world.client.delete(f"/v1/patches/{with_version.id}"), 409, "patch_in_use")
    assert str(with_version.version) in problem["detail"]
    assert world.client.delete(f"/v1/versions/{with_version.version}").status_code == 200
    check_problem(world.client.delete(f"/v1/patches/{with_version.id}"), 409, "patch_in_use")


def test_the_collection_tells_which_bytes_it_frees(world: World, tmp_path: Path) -> None:
    shard = world.services.blobs.put_bytes(b"a shard of a deleted data set")
    identifier = add_ready_dataset(world.services, ["zero"])
    shards = {"train": {"sha256": shard, "num_images": 1}}
    with world.services.database.write() as session:
        session.execute(update(DatasetRow).where(DatasetRow.id == identifier).values(shards=shards))
    world.client.delete(f"/v1/datasets/{identifier}")
    freed = {"sha256": shard, "num_bytes": 29}
    assert freed not in world.client.post("/v1/gc?dry_run=true").json()["blobs"], "it is younger than an hour"
    _age_blobs(world)
    told = world.client.post("/v1/gc?dry_run=true").json()
    assert freed in told["blobs"]
    assert told["num_bytes"] >= 29
    assert world.services.blobs.read(shard)
    assert freed in world.client.post("/v1/gc").json()["blobs"]
    assert world.services.blobs.stat(shard) is None
    assert world.client.post("/v1/gc").json()["blobs"] == []


def test_the_archive_of_an_upload_that_failed_is_freed(world: World, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "x.zip", {**digit_members(range(2), train=3, val=1, test=1), "n.txt": b"failed"})
    dataset = _upload(world, archive)
    with world.services.database.write() as session:
        row = session.get(DatasetRow, dataset["id"])
        assert row is not None
        sha256 = row.archive_sha256
        lease = Jobs(session).lease(dataset["job_id"], "a test")
        assert lease is not None
        Jobs(session).fail(lease, "no_images", "Not one image could be read.")
    _age_blobs(world)
    assert sha256 in [each["sha256"] for each in world.client.post("/v1/gc").json()["blobs"]]
    again = _upload(world, archive)
    assert again["id"] == dataset["id"]
    assert world.services.blobs.read(sha256) == archive.read_bytes()


@pytest.mark.parametrize("path", ["/v1/datasets/ds_nothing", "/v1/patches/pt_nothing"])
def test_what_is_not_there_cannot_be_deleted(world: World, path: str) -> None:
    check_problem(world.client.delete(path), 404, "not_found")
