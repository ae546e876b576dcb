"""A parallel patch over HTTP: workers are told of its parts, which are listed with the job that they belong to."""

from tests.app.world import World, add_ready_dataset, check_problem

SPLITS = ("train", "validation", "test")


def test_the_child_jobs_of_a_parallel_patch_are_dispatched_and_listed_with_their_parent(world: World) -> None:
    tasks = [add_ready_dataset(world.services, ["zero", "one"], splits=SPLITS) for _ in range(2)]
    num_dispatched = len(world.dispatcher.dispatched)
    body = {"name": "both", "method": "parallel", "tasks": tasks}
    started = world.client.post("/v1/patches", json=body).json()
    patch, job = started["patch"], started["job"]
    assert (job["kind"], job["parent_id"], job["part"]) == ("patch", None, None)
    listed = world.client.get("/v1/jobs").json()["items"]
    parts = {each["part"]: each for each in listed if each["parent_id"] == job["id"]}
    assert set(parts) == set(tasks)
    assert {(each["kind"], each["subject_id"], each["links"]["subject"]) for each in parts.values()} == {
        ("finetune", patch["id"], f"/v1/patches/{patch['id']}")
    }
    assert set(world.dispatcher.dispatched[num_dispatched:]) == {each["id"] for each in parts.values()}

    one = next(iter(parts.values()))
    problem = check_problem(world.client.post(one["links"]["cancel"]), 409, "conflict")
    assert job["id"] in problem["detail"]
    assert world.client.post(job["links"]["cancel"]).json()["status"] == "cancelled"
    statuses = [world.client.get(each["links"]["self"]).json()["status"] for each in parts.values()]
    assert statuses == ["cancelled", "cancelled"]
    num_dispatched = len(world.dispatcher.dispatched)
    assert world.client.post(job["links"]["retry"]).json()["status"] == "queued"
    assert set(world.dispatcher.dispatched[num_dispatched:]) == {each["id"] for each in parts.values()}
