"""Lists over HTTP: pages and filters."""

import json

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from app.datasets.schemas import MAX_REJECTED
from contract.jobs import JobKind
from registry.jobs import Jobs
from registry.tables import DatasetRow, JobRow, VersionRow
from tests.app.patched import add_patch
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


def test_lists_are_filtered_by_name_owner_and_time(world: World) -> None:
    identifier = add_ready_dataset(world.services, ["a"], splits=("train", "validation", "test"))
    body = {"name": "Screws 50%_off", "tasks": [identifier]}
    patch = world.client.post("/v1/patches", json=body).json()["patch"]
    asked = {"name": "bent screws", "versions": [1], "dataset": identifier}
    evaluation = world.client.post("/v1/evaluations", json=asked).json()["evaluation"]
    with world.services.database.write() as session:
        moment = session.get_one(DatasetRow, identifier).created_at.isoformat()
        session.execute(update(DatasetRow).where(DatasetRow.id == identifier).values(name="SCREWS", owner="me"))
        session.execute(update(JobRow).where(JobRow.id == patch["job_id"]).values(owner="me"))

    def found(path: str, **query: object) -> set[str]:
        response = world.client.get(f"/v1/{path}", params={"limit": 1000} | query)
        assert response.status_code == 200, response.text
        return {str(each["id"]) for each in response.json()["items"]}

    assert found("datasets", name="crew") == {identifier}
    assert found("datasets", name="crew", owner="me", since=moment) == {identifier}
    assert found("datasets", name="crew", owner="you") == found("datasets", owner="m") == set()
    assert found("datasets", name="%") == found("datasets", since="2999-01-01T00:00:00+01:00") == set()
    assert found("patches", name="50%_OFF") == found("patches", dataset=identifier) == {patch["id"]}
    assert found("evaluations", name="BENT", dataset=identifier) == {evaluation["id"]}
    assert found("jobs", name="screws") > {patch["job_id"], evaluation["job_id"]}
    assert found("jobs", name="screws", owner="me", kind="patch", status="queued") == {patch["job_id"]}
    for query in ({"since": "2026-01-01T00:00:00"}, {"since": "0001-01-01T00:00:00+14:00"}, {"owner": ""}):
        check_problem(world.client.get("/v1/jobs", params=query), 422, "invalid_request")


def test_versions_are_found_by_their_alias_and_the_data_set_of_their_patch(world: World) -> None:
    patched = add_patch(world)
    assert world.client.put("/v1/aliases/mine", json={"version": patched.version}).status_code in (200, 201)

    def found(**query: object) -> list[int]:
        return [each["id"] for each in world.client.get("/v1/versions", params=query).json()["items"]]

    assert found(alias="mine") == found(dataset=patched.task) == found(dataset=patched.supported) == [patched.version]
    assert found(alias="mine", dataset="ds_none") == found(alias="nobody") == []
    assert found(name="EED 2") == [each["id"] for each in world.client.get("/v1/versions").json()["items"]
                                   if each["name"] == "seed 2"]  # fmt: skip


def test_lists_show_what_people_look_for(world: World) -> None:
    patched = add_patch(world)
    assert world.client.put("/v1/aliases/shown", json={"version": patched.version}).status_code in (200, 201)
    judged = [
        {"dataset_id": "ds_1", "name": "n", "role": role, "zero_shot": {"correct": 1, "total": 4}} | {"patched": patch}
        for role, patch in (("patching", {"correct": 3, "total": 4}), ("patching", {"correct": 1, "total": 4}))
    ]
    with world.services.database.write() as session:
        session.get_one(VersionRow, patched.version).evaluation = {"split": "test", "tasks": judged}

    def find(path: str, identifier: object) -> dict:  # type: ignore[type-arg]
        items = world.client.get(f"/v1/{path}", params={"limit": 1000}).json()["items"]
        (found,) = [each for each in items if each["id"] == identifier]
        assert (
            world.client.get(f"/v1/{path}/{identifier}").json() | found
            == world.client.get(f"/v1/{path}/{identifier}").json()
        )
        return dict(found)

    patch, version = find("patches", patched.id), find("versions", patched.version)
    tasks = world.client.get(f"/v1/patches/{patched.id}").json()["report"]["tasks"]
    points = {task["role"]: (task.get("change") or {}).get("change_points") for task in tasks}
    assert patch["summary"] == {
        "alpha": 0.5, "patching_points": points["patching"], "supported_points": points["supported"], "certified": None,
    }  # fmt: skip
    assert (version["aliases"], version["patch_name"]) == (["shown"], patch["name"])
    assert version["headline"] == {"split": "test", "patching_accuracy": 0.5, "supported_accuracy": None}
    assert find("jobs", patch["job_id"])["subject_name"] == patch["name"]


def test_a_patch_in_a_list_leaves_out_what_it_is_asked_for_alone(client: TestClient) -> None:
    brief = client.get("/v1/patches").json()["items"][0]
    whole = client.get(f"/v1/patches/{brief['id']}").json()
    assert brief == {key: value for key, value in whole.items() if key not in ("request", "instant_patch_id", "report")}


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
