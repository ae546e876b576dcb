"""What a request for a patch would do, before it is started: the same refusals, estimates, and nothing left behind."""

from typing import Any

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from paint_core.evaluation.drops import images_to_certify
from registry.patches import Patches
from registry.tables import JobEventRow, JobRow, PatchRow
from tests.app.patched import SPLITS, add_patch
from tests.app.world import World, add_ready_dataset, check_problem


def counts(world: World) -> list[int]:
    with world.services.database.read() as session:
        found = [session.scalar(select(func.count()).select_from(each)) for each in (PatchRow, JobRow, JobEventRow)]
    return [number or 0 for number in found]


def check(client: TestClient, **request: Any) -> dict[str, Any]:
    response = client.post("/v1/patches/check", json={"name": "a patch", **request})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


@pytest.fixture(scope="module")
def task(world: World) -> str:
    return add_ready_dataset(world.services, ["cat", "dog"], splits=SPLITS)


@pytest.fixture(scope="module")
def supported(world: World) -> str:
    return add_ready_dataset(world.services, ["sun", "moon", "star"], splits=("validation", "test"))


def test_nothing_is_stored_or_queued(world: World, client: TestClient, task: str, supported: str) -> None:
    before, dispatched = counts(world), list(world.dispatcher.dispatched)
    check(client, tasks=[task], supported=[supported])
    assert counts(world) == before
    assert world.dispatcher.dispatched == dispatched


def test_defaults_are_filled_in_and_the_data_sets_are_named(client: TestClient, task: str, supported: str) -> None:
    found = check(client, tasks=[task], supported=[supported], finetune={"iterations": 10})
    assert found["request"]["alpha"]["rule"] == "certified"
    assert found["request"]["finetune"]["iterations"] == found["num_steps"] == 10
    assert None not in (found["request"]["finetune"][name] for name in ("batch_size", "learning_rate", "warmup_steps"))
    assert found["request"]["base"] == found["base"]["ref"] == "starter"
    assert [(each["id"], each["role"], each["images"]) for each in found["datasets"]] == [
        (task, "task", {"train": 2, "validation": 2, "test": 2}),
        (supported, "supported", {"validation": 3, "test": 3}),
    ]
    again = check(client, **{name: value for name, value in found["request"].items() if value is not None})
    assert again["request"] == found["request"]  # what it resolves to resolves to itself


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"tasks": ["ds_none"]}, 404, "not_found"),
        ({"base": "another"}, 404, "not_found"),
        ({"finetune": {"trainable": "last_k", "last_k": 1000}}, 422, None),
        ({"method": "joint"}, 422, "invalid_request"),
    ],
)
def test_what_could_not_be_started_is_refused_alike(
    client: TestClient, task: str, change: dict[str, Any], status: int, code: str | None
) -> None:
    body = {"name": "a patch", "tasks": [task], **change}
    checked, started = (client.post(path, json=body) for path in ("/v1/patches/check", "/v1/patches"))
    problem = check_problem(checked, status, code or checked.json()["code"])
    told = check_problem(started, status, problem["code"])
    assert problem["detail"] == told["detail"]


def test_it_says_how_many_images_each_limit_takes(client: TestClient, task: str, supported: str) -> None:
    found = check(client, tasks=[task], supported=[supported])
    mean, each = found["certification"]
    assert (mean["dataset"], mean["max_drop"], mean["num_images"]) == (None, 1, 3)
    assert (each["dataset"], each["max_drop"], each["num_images"]) == (supported, 3, 3)
    for limit in (mean, each):
        wanted = images_to_certify(found["flip_rate"], limit["max_drop"] / 100)
        assert (limit["images_needed"], limit["is_enough"]) == (wanted, False)
    assert sum("needed to certify" in warning for warning in found["warnings"]) == 2
    tuned = check(client, tasks=[task], supported=[supported], finetune={"tune": 5})
    wanted = images_to_certify(found["flip_rate"], 0.01, 0.99)
    assert tuned["certification"][0]["images_needed"] == wanted > mean["images_needed"]
    assert tuned["request"]["finetune"]["tune"] == 5
    floor = check(client, tasks=[task], supported=[supported], alpha={"rule": "floor", "max_supported_drop": 1})
    assert (floor["certification"], floor["flip_rate"]) == ([], None)


def test_warnings_name_what_is_missing(client: TestClient, task: str) -> None:
    warnings = "\n".join(check(client, tasks=[task])["warnings"])
    assert "No supported task" in warnings
    assert "2 validation images" in warnings
    assert "anchors" in warnings


def test_time_is_estimated_from_patches_that_succeeded(world: World, client: TestClient, task: str) -> None:
    assert check(client, tasks=[task])["estimate"] is None
    patch = add_patch(world)
    with world.services.database.write() as session:
        row = Patches(session).get(patch.id)
        row.report = {**(row.report or {}), "timings_seconds": {"fine-tuning": 90.0, "select": 10.0}}
        row.request = {**row.request, "finetune": {"iterations": 100}}
    one, two = (check(client, tasks=[task], finetune={"iterations": number})["estimate"] for number in (100, 200))
    assert one["num_patches"] == 1
    assert one["low"] == one["seconds"] == one["high"]
    assert two["seconds"] == pytest.approx(2 * one["seconds"], rel=0.05)
    assert one["seconds"] == pytest.approx(100, rel=0.2)


def test_the_flip_rate_is_that_of_earlier_patches(world: World, client: TestClient, task: str, supported: str) -> None:
    patch = add_patch(world)
    with world.services.database.write() as session:
        row = Patches(session).get(patch.id)
        tasks = [
            {**each, "validation": {**(each.get("validation") or {}), "patched": {"lost": 7, "gained": 3, "total": 50}}}
            for each in (row.report or {})["tasks"]
        ]
        row.report = {**(row.report or {}), "tasks": tasks}
        others = [each for each in session.scalars(select(PatchRow)) if each.id != patch.id]
        for each in others:
            each.report = {**(each.report or {}), "tasks": []}
    assert check(client, tasks=[task], supported=[supported])["flip_rate"] == 0.2
