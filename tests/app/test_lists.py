"""Lists over HTTP: pages and filters."""

import json

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from app.datasets.schemas import MAX_REJECTED
from contract.jobs import JobKind
from registry.jobs import Jobs
from registry.tables import DatasetRow, JobRow
from tests.app.world import World, add_ready_dataset, add_version, check_problem

LISTS = ("/v1/datasets", "/v1/jobs", "/v1/versions", "/v1/aliases/active/history", "/v1/patches", "/v1/label-sets")


@pytest.fixture(scope="module", autouse=True)
def _filled(world: World) -> None:
    for index in range(5):
        add_ready_dataset(world.services, [f"class {index}", "another"], splits=("train", "val", "validation", "test"))
        version_id, _ = add_version(world.services, world.base, seed=index + 1)
        body = {"version": version_id, "reason": f"move {index}"}
        assert world.client.put("/v1/aliases/active", json=body).status_code == 200
        made = world.client.post("/v1/label-sets", json={"labels": [f"class {index}"]})
        assert made.status_code == 201
    tasks = [dataset["id"] for dataset in world.client.get("/v1/datasets").json()["items"]]
    for task in tasks:
        asked = world.client.post("/v1/patches", json={"name": f"of {task}", "tasks": [task]})
        assert asked.status_code == 202, asked.text


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_pages_put_together_are_the_whole_list(client: TestClient, path: str, limit: int) -> None:
    whole = client.get(path, params={"limit": 1000}).json()
    assert whole["next_cursor"] is None
    assert len(whole["items"]) >= 5
    items, query = [], {"limit": limit}
    while True:
        page = client.get(path, params=query).json()
        items += page["items"]
        if page["next_cursor"] is None:
            break
        query = {"limit": limit, "cursor": page["next_cursor"]}
    assert items == whole["items"]


def test_a_cursor_of_another_list_is_refused(client: TestClient) -> None:
    cursor = client.get("/v1/jobs", params={"limit": 1}).json()["next_cursor"]
    check_problem(client.get("/v1/versions", params={"cursor": cursor}), 422, "bad_cursor")
    check_problem(client.get("/v1/jobs", params={"cursor": "x"}), 422, "bad_cursor")


def test_jobs_are_asked_for_by_status_and_kind(world: World) -> None:
    with world.services.database.write() as session:
        jobs = Jobs(session)
        job_id = jobs.create(JobKind.PATCH, "pt_none").id
        jobs.request_cancel(job_id)

    def found(**query: object) -> list[dict]:  # type: ignore[type-arg]
        items: list[dict] = world.client.get("/v1/jobs", params=query).json()["items"]  # type: ignore[type-arg]
        return items

    assert [job["id"] for job in found(status="cancelled")] == [job_id]
    both = found(status=["cancelled", "queued"], kind="patch")
    assert {job["status"] for job in both} == {"cancelled", "queued"}
    assert {job["kind"] for job in both} == {"patch"}
    check_problem(world.client.get("/v1/jobs", params={"status": "asleep"}), 422, "invalid_request")


def test_a_patch_in_a_list_leaves_out_what_it_is_asked_for_alone(client: TestClient) -> None:
    brief = client.get("/v1/patches").json()["items"][0]
    whole = client.get(f"/v1/patches/{brief['id']}").json()
    assert brief == {key: value for key, value in whole.items() if key not in ("request", "report")}


def test_a_list_of_data_sets_is_short_whatever_they_hold(world: World) -> None:
    identifier = add_ready_dataset(world.services, [f"class {index:05}" for index in range(5000)], splits=("train",))
    with world.services.database.write() as session:
        rejected = [{"file": "x" * 1000, "reason": "is\x1b no picture"} for _ in range(50_000)]
        session.execute(update(DatasetRow).where(DatasetRow.id == identifier).values(rejected=rejected))
    (item,) = [each for each in world.client.get("/v1/datasets").json()["items"] if each["id"] == identifier]
    assert len(json.dumps(item)) < 1000
    assert item["num_classes"] == 5000
    assert item["splits"] == {"train": {"num_images": 5000}}
    whole = world.client.get(f"/v1/datasets/{identifier}")
    assert len(whole.content) < 500_000
    assert len(whole.json()["rejected"]) == MAX_REJECTED
    assert whole.json()["num_rejected"] == 50_000
    assert "\\u001b" not in whole.text


def test_a_job_with_a_long_error_is_short_in_a_list(world: World) -> None:
    with world.services.database.write() as session:
        jobs = Jobs(session)
        lease = jobs.lease(jobs.create(JobKind.PATCH, "pt_long").id, "a test")
        assert lease is not None
        jobs.fail(lease, "bad_table", "x")
        session.execute(update(JobRow).where(JobRow.id == lease.job_id).values(error_detail="\x1b" * 1_000_000))
    (item,) = [each for each in world.client.get("/v1/jobs").json()["items"] if each["id"] == lease.job_id]
    assert len(item["error"]["detail"]) == 2000
    assert "\x1b" not in item["error"]["detail"]
