"""Asking for patches, and watching and cancelling jobs."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from contract.jobs import JobKind
from registry.jobs import Jobs
from registry.patches import Patches
from registry.versions import Versions
from tests.app.world import World, add_ready_dataset, add_version, check_problem
from tests.builders import small_report
from tests.contract.stored import FIRST_EVALUATION, FIRST_LINEAGE, FIRST_REPORT

SPLITS = ("train", "validation", "test")


def test_a_patch_starts_as_a_queued_job(world: World) -> None:
    task = add_ready_dataset(world.services, ["zero", "one"], splits=SPLITS)
    supported = add_ready_dataset(world.services, ["pizza", "taco"], splits=SPLITS[1:])
    transfer = add_ready_dataset(world.services, ["two", "three"], splits=("test",))
    body = {"name": "digits", "tasks": [task], "supported": [supported], "finetune": {"iterations": 10}}
    body["transfer"] = [transfer]
    response = world.client.post("/v1/patches", json=body)
    assert response.status_code == 202
    patch, job = response.json()["patch"], response.json()["job"]
    assert response.headers["location"] == f"/v1/jobs/{job['id']}" == job["links"]["self"]
    assert patch["request"]["finetune"]["iterations"] == 10
    assert patch["request"]["transfer"] == [transfer]
    assert patch["base"]["ref"] == "starter"
    assert patch["report"] is None
    assert (job["kind"], job["status"], job["subject_id"]) == ("patch", "queued", patch["id"])
    assert world.dispatcher.dispatched[-1] == job["id"]
    assert world.client.get(job["links"]["subject"]).json() == patch
    assert patch["id"] in [item["id"] for item in world.client.get("/v1/patches").json()["items"]]


def test_method_auto_starts_an_instant_patch_that_is_done_first(world: World) -> None:
    task = add_ready_dataset(world.services, ["zero", "one"], splits=SPLITS)
    supported = add_ready_dataset(world.services, ["pizza", "taco"], splits=SPLITS[1:])
    body = {"name": "n" * 200, "method": "auto", "tasks": [task], "supported": [supported], "finetune": {"seed": 3}}
    headers = {"Idempotency-Key": "auto-once"}
    started = world.client.post("/v1/patches", json=body, headers=headers).json()
    patch = started["patch"]
    assert patch["request"]["anchors"]["drawn"] is True, "features are held in place unless the request says how"
    first = world.client.get(f"/v1/patches/{patch['instant_patch_id']}").json()
    assert world.dispatcher.dispatched[-2:] == [first["job_id"], started["job"]["id"]]
    assert first["request"]["method"] == "instant"
    assert (first["request"]["tasks"], first["request"]["alpha"]) == ([task], patch["request"]["alpha"])
    assert first["name"].endswith(", instant")
    assert first["instant_patch_id"] is None
    again = world.client.post("/v1/patches", json=body, headers=headers).json()
    assert again["patch"]["id"] == patch["id"]
    assert len(world.client.get("/v1/patches", params={"dataset": task}).json()["items"]) == 2
    assert world.client.post(f"/v1/jobs/{first['job_id']}/cancel").status_code == 200
    assert world.client.delete(f"/v1/patches/{first['id']}").status_code == 204
    assert world.client.get(f"/v1/patches/{patch['id']}").json()["instant_patch_id"] is None


def test_a_patch_that_cannot_start_is_refused_at_once(world: World) -> None:
    task = add_ready_dataset(world.services, ["zero", "one"], splits=SPLITS)
    no_train = add_ready_dataset(world.services, ["zero", "one"], splits=("test",))
    only_train = add_ready_dataset(world.services, ["zero", "one"], splits=("train",))
    post = world.client.post
    num_dispatched = len(world.dispatcher.dispatched)
    check_problem(post("/v1/patches", json={"name": "x", "tasks": ["ds_nothing"]}), 404, "not_found")
    check_problem(post("/v1/patches", json={"name": "x", "tasks": [task], "base": "other"}), 404, "not_found")
    check_problem(post("/v1/patches", json={"name": "x", "tasks": [no_train]}), 422, "empty_split")
    check_problem(post("/v1/patches", json={"name": "x", "tasks": []}), 422, "invalid_request")
    check_problem(post("/v1/patches", json={"name": "x", "tasks": [task], "typo": 1}), 422, "invalid_request")
    check_problem(post("/v1/patches", json={"name": "x", "tasks": [task], "supported": [task]}), 422, "invalid_request")
    for transfer, status, code in (
        ([task], 422, "invalid_request"),
        (["ds_nothing"], 404, "not_found"),
        ([only_train], 422, "empty_split"),
    ):
        body = {"name": "x", "tasks": [task], "transfer": transfer}
        check_problem(post("/v1/patches", json=body), status, code)
    pool = {"name": "x", "tasks": [task], "transfer": [no_train], "anchors": {"dataset": no_train}}
    assert "transfer" in check_problem(post("/v1/patches", json=pool), 422, "invalid_request")["detail"]
    assert len(world.dispatcher.dispatched) == num_dispatched


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"finetune": {"trainable": "last_k", "last_k": 99}}, "last_k"),
        ({"finetune": {"accumulation_steps": 997}}, "divisor of batch_size"),
        ({"finetune": {"warmup_steps": 999_999}}, "warmup_steps"),
        ({"finetune": {"accumulation_steps": 2}, "anchors": {"supported": True, "batch_size": 3}}, "anchor_batch_size"),
    ],
    ids=str,
)
def test_settings_that_the_base_contradicts_are_refused_before_a_job_is_queued(
    world: World, options: dict[str, Any], reason: str
) -> None:
    task, supported = (add_ready_dataset(world.services, ["zero", "one"], splits=SPLITS) for _ in range(2))
    before = world.client.get("/v1/patches").json()
    body = {"name": "x", "tasks": [task], "supported": [supported], **options}
    problem = check_problem(world.client.post("/v1/patches", json=body), 422, "config_invalid")
    assert reason in problem["detail"]
    assert world.client.get("/v1/patches").json() == before


def test_settings_that_fit_the_base_are_accepted(world: World) -> None:
    task, supported = (add_ready_dataset(world.services, ["zero", "one"], splits=SPLITS) for _ in range(2))
    body = {
        "name": "x",
        "tasks": [task],
        "supported": [supported],
        "finetune": {"iterations": 3, "trainable": "last_k", "last_k": 1},
        "anchors": {"supported": True},
        "alpha": {"path": "best", "strategy": "interpolated"},
    }
    assert world.client.post("/v1/patches", json=body).status_code == 202


def test_a_wrong_combination_is_refused_with_the_reason(world: World) -> None:
    task = add_ready_dataset(world.services, ["zero", "one"], splits=SPLITS)
    body = {"name": "x", "tasks": [task], "alpha": {"rule": "floor", "max_supported_drop": 2}}
    problem = check_problem(world.client.post("/v1/patches", json=body), 422, "invalid_request")
    assert "at least one supported task" in problem["detail"]


def test_a_patch_waits_for_its_data_sets(world: World) -> None:
    task = add_ready_dataset(world.services, ["zero", "one"], splits=SPLITS)
    with world.services.database.write() as session:
        from registry.datasets import DatasetOptions, Datasets

        row, _ = Datasets(session).submit("slow", "1" * 64, DatasetOptions())
    body = {"name": "x", "tasks": [task], "supported": [row.id]}
    problem = check_problem(world.client.post("/v1/patches", json=body), 409, "dataset_not_ready")
    assert row.job_id in problem["next"]


def test_a_finished_patch_carries_its_report(world: World) -> None:
    task = add_ready_dataset(world.services, ["zero", "one"], splits=SPLITS)
    patch = world.client.post("/v1/patches", json={"name": "x", "tasks": [task]}).json()["patch"]
    with world.services.database.write() as session:
        lease = Jobs(session).lease(patch["job_id"], "a test")
        assert lease is not None
        Patches(session).complete(patch["id"], version_id=1, report=small_report())
        Jobs(session).succeed(lease)
    done = world.client.get(f"/v1/patches/{patch['id']}").json()
    assert done["report"] == {"alpha": 0.5, "reason": "best", "tasks": [], "version_id": 1}
    assert done["version_id"] == 1
    assert done["job"]["status"] == "succeeded"


def test_a_report_of_the_first_release_is_shown_as_it_was_stored(world: World) -> None:
    task = add_ready_dataset(world.services, ["zero", "one"], splits=SPLITS)
    patch = world.client.post("/v1/patches", json={"name": "x", "tasks": [task]}).json()["patch"]
    with world.services.database.write() as session:
        row = Patches(session).get(patch["id"])
        row.report = FIRST_REPORT
        row.request = {name: value for name, value in row.request.items() if name != "transfer"}
    shown = world.client.get(f"/v1/patches/{patch['id']}").json()
    assert shown["report"] == FIRST_REPORT
    assert shown["request"] == {name: value for name, value in patch["request"].items() if name != "transfer"}


def test_lineage_and_evaluation_of_the_first_release_are_shown_as_they_were_stored(world: World) -> None:
    version, _ = add_version(world.services, world.base, seed=1)
    with world.services.database.write() as session:
        row = Versions(session).get(version)
        row.lineage, row.evaluation = FIRST_LINEAGE, FIRST_EVALUATION
    shown = world.client.get(f"/v1/versions/{version}").json()
    assert (shown["lineage"], shown["evaluation"]) == (FIRST_LINEAGE, FIRST_EVALUATION)


def _create(world: World) -> str:
    with world.services.database.write() as session:
        return Jobs(session).create(JobKind.PATCH, "pt_test").id


def test_a_running_job_tells_stage_progress_and_time_to_go(world: World) -> None:
    job_id = _create(world)
    with world.services.database.write() as session:
        lease = Jobs(session).lease(job_id, "a test")
        assert lease is not None
        Jobs(session).report(lease, stage="finetune", progress=0.25, eta_seconds=30)
    job = world.client.get(f"/v1/jobs/{job_id}").json()
    assert (job["status"], job["stage"], job["progress"], job["eta_seconds"]) == ("running", "finetune", 0.25, 30)
    assert job["attempt"] == 1
    assert job["error"] is None
    assert job["started_at"] is not None


def test_a_failed_job_tells_the_cause(world: World) -> None:
    job_id = _create(world)
    with world.services.database.write() as session:
        lease = Jobs(session).lease(job_id, "a test")
        assert lease is not None
        Jobs(session).fail(lease, "loss_non_finite", "The loss was NaN.")
    job = world.client.get(f"/v1/jobs/{job_id}").json()
    assert job["error"] == {"code": "loss_non_finite", "detail": "The loss was NaN."}
    check_problem(world.client.post(f"/v1/jobs/{job_id}/cancel"), 409, "conflict")


def test_events_go_on_where_the_last_page_ended(world: World) -> None:
    job_id = _create(world)
    first = world.client.get(f"/v1/jobs/{job_id}/events").json()
    assert [event["message"] for event in first["items"]] == ["queued"]
    with world.services.database.write() as session:
        Jobs(session).lease(job_id, "a test")
    rest = world.client.get(f"/v1/jobs/{job_id}/events", params={"after": first["next_after"]}).json()
    assert [event["message"] for event in rest["items"]] == ["started"]
    end = world.client.get(f"/v1/jobs/{job_id}/events", params={"after": rest["next_after"]}).json()
    assert end == {"items": [], "next_after": rest["next_after"]}


def test_a_waiting_job_is_cancelled_at_once_and_twice_is_no_error(world: World) -> None:
    job_id = _create(world)
    for _ in range(2):
        response = world.client.post(f"/v1/jobs/{job_id}/cancel")
        assert response.status_code == 200
        assert response.json()["status"] == "cancelled"


def test_what_is_not_there_is_a_problem(client: TestClient) -> None:
    for path in ("/v1/jobs/job_nothing", "/v1/jobs/job_nothing/events", "/v1/patches/pt_nothing"):
        check_problem(client.get(path), 404, "not_found")
    check_problem(client.post("/v1/jobs/job_nothing/cancel"), 404, "not_found")
    check_problem(client.get("/v1/jobs", params={"limit": 0}), 422, "invalid_request")


def test_a_patch_that_was_cancelled_is_tried_again_and_workers_are_told(world: World) -> None:
    task = add_ready_dataset(world.services, ["a", "b"], splits=("train", "validation", "test"))
    job = world.client.post("/v1/patches", json={"name": "again", "tasks": [task]}).json()["job"]
    check_problem(world.client.post(job["links"]["retry"]), 409, "conflict")
    assert world.client.post(job["links"]["cancel"]).json()["status"] == "cancelled"
    told = world.dispatcher.dispatched.count(job["id"])
    retried = world.client.post(job["links"]["retry"])
    assert retried.status_code == 202, retried.text
    again = retried.json()
    assert (again["id"], again["status"], again["attempt"]) == (job["id"], "queued", 0)
    assert (again["cancel_requested"], again["error"], again["finished_at"]) == (False, None, None)
    assert world.dispatcher.dispatched.count(job["id"]) == told + 1
    with world.services.database.write() as session:
        lease = Jobs(session).lease(job["id"], "a test")
        assert lease is not None
        Jobs(session).fail(lease, "out_of_memory", "The device is full.")
    assert world.client.post(job["links"]["retry"]).json()["status"] == "queued"
    with world.services.database.write() as session:
        lease = Jobs(session).lease(job["id"], "a test")
        assert lease is not None
        Jobs(session).succeed(lease)
    check_problem(world.client.post(job["links"]["retry"]), 409, "conflict")
    check_problem(world.client.post("/v1/jobs/job_none/retry"), 404, "not_found")


def test_a_data_set_is_tried_again_by_uploading_it(world: World) -> None:
    with world.services.database.write() as session:
        jobs = Jobs(session)
        job_id = jobs.request_cancel(jobs.create(JobKind.INGEST, "ds_none").id).id
    problem = check_problem(world.client.post(f"/v1/jobs/{job_id}/retry"), 409, "conflict")
    assert "Upload the archive again" in problem["next"]


def test_a_request_that_is_sent_again_starts_nothing_new(world: World) -> None:
    task = add_ready_dataset(world.services, ["a", "b"], splits=SPLITS)
    body, key = {"name": "once", "tasks": [task]}, {"Idempotency-Key": "f3e1"}
    first = world.client.post("/v1/patches", json=body, headers=key)
    told = len(world.dispatcher.dispatched)
    again = world.client.post("/v1/patches", json={**body, "method": "single"}, headers=key)  # the default, said aloud
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert again.headers["location"] == first.headers["location"]
    assert len(world.dispatcher.dispatched) == told
    other = world.client.post("/v1/patches", json={**body, "name": "another"}, headers=key)
    assert first.json()["patch"]["id"] in check_problem(other, 422, "idempotency_key_reused")["detail"]
    assert world.client.post("/v1/patches", json=body).json()["patch"]["id"] != first.json()["patch"]["id"]
    check_problem(
        world.client.post("/v1/patches", json=body, headers={"Idempotency-Key": "x" * 256}), 422, "invalid_request"
    )


def test_a_request_that_was_refused_leaves_its_key_free(world: World) -> None:
    key = {"Idempotency-Key": "refused first"}
    check_problem(
        world.client.post("/v1/patches", json={"name": "x", "tasks": ["ds_none"]}, headers=key), 404, "not_found"
    )
    task = add_ready_dataset(world.services, ["a", "b"], splits=SPLITS)
    assert world.client.post("/v1/patches", json={"name": "x", "tasks": [task]}, headers=key).status_code == 202


def test_the_same_request_at_the_same_moment_makes_one_patch(world: World) -> None:
    task = add_ready_dataset(world.services, ["a", "b"], splits=SPLITS)
    body, key = {"name": "at once", "tasks": [task]}, {"Idempotency-Key": "at once"}

    def ask(_: int) -> str:
        identifier: str = world.client.post("/v1/patches", json=body, headers=key).json()["patch"]["id"]
        return identifier

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
