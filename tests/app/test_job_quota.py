"""Priorities and quotas over HTTP."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from contract.access import Scope
from registry.keys import ApiKeys
from tests.app.world import World, add_ready_dataset, check_problem, open_world
from tests.builders import digit_members, write_zip

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("keyed"), max_unfinished_jobs=2) as world:
        yield world


def new_key(world: World, *scopes: Scope) -> dict[str, str]:
    """Headers with a key of an owner of its own."""
    with world.services.database.write() as session:
        token = ApiKeys(session).create(
            name=secrets.token_hex(4), scopes=list(scopes), expires_at=None, created_by="a test"
        )[1]
    world.services.keyring.reload()
    return {"authorization": f"Bearer {token}"}


def ask(world: World, headers: dict[str, str], **fields: Any) -> Any:
    task = add_ready_dataset(world.services, ["zero", "one"], splits=SPLITS)
    return world.client.post("/v1/patches", json={"name": "x", "tasks": [task], **fields}, headers=headers)


def test_a_jobs_priority_is_told_and_normal_unless_asked(world: World) -> None:
    for fields, expected in (({}, "normal"), ({"priority": "low"}, "low"), ({"priority": "high"}, "high")):
        job = ask(world, {}, **fields).json()["job"]
        assert job["priority"] == expected
        assert world.client.get(f"/v1/jobs/{job['id']}").json()["priority"] == expected
    check_problem(ask(world, {}, priority="urgent"), 422, "invalid_request")


def test_only_an_admin_overtakes_others(keyed: World) -> None:
    writer, admin = new_key(keyed, Scope.WRITE), new_key(keyed, Scope.ADMIN)
    check_problem(ask(keyed, writer, priority="high"), 403, "scope_missing")
    assert ask(keyed, writer, priority="low").status_code == 202
    assert ask(keyed, admin, priority="high").status_code == 202


def test_an_owner_with_too_many_unfinished_jobs_is_told_what_to_do(keyed: World, tmp_path: Any) -> None:
    mine, others = new_key(keyed, Scope.WRITE, Scope.READ), new_key(keyed, Scope.WRITE)
    jobs = [ask(keyed, mine).json()["job"]["id"] for _ in range(2)]
    refused = ask(keyed, mine)
    problem = check_problem(refused, 429, "job_quota")
    assert "2 unfinished jobs" in problem["detail"]
    assert "cancel one" in problem["next"]
    assert refused.headers["retry-after"] == "60"
    archive = write_zip(tmp_path / "digits.zip", digit_members(range(2), train=3)).read_bytes()
    upload = {"data": {"name": "digits"}, "files": {"archive": ("digits.zip", archive)}, "headers": mine}
    check_problem(keyed.client.post("/v1/datasets", **upload), 429, "job_quota")
    assert ask(keyed, others).status_code == 202
    keyed.client.post(f"/v1/jobs/{jobs[0]}/cancel", headers=mine)
    assert keyed.client.post("/v1/datasets", **upload).status_code == 202
    check_problem(keyed.client.post(f"/v1/jobs/{jobs[0]}/retry", headers=mine), 429, "job_quota")


def test_a_repeated_request_and_a_known_data_set_need_no_room(keyed: World) -> None:
    mine = new_key(keyed, Scope.WRITE)
    task = add_ready_dataset(keyed.services, ["zero", "one"], splits=SPLITS)
    headers = mine | {"Idempotency-Key": secrets.token_hex(8)}
    body = {"name": "x", "tasks": [task]}
    first = keyed.client.post("/v1/patches", json=body, headers=headers)
    assert ask(keyed, mine).status_code == 202
    again = keyed.client.post("/v1/patches", json=body, headers=headers)
    assert (again.status_code, again.json()["job"]["id"]) == (202, first.json()["job"]["id"])


def test_without_keys_nobody_is_counted(tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_world(tmp_path_factory.mktemp("open"), max_unfinished_jobs=1) as world:
        assert [ask(world, {}).status_code for _ in range(3)] == [202, 202, 202]
