"""Lists over HTTP: pages and filters."""

import pytest
from starlette.testclient import TestClient

from registry.contract import JobKind
from registry.jobs import Jobs
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
