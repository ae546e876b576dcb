"""Aliases over HTTP: any number of them, moved only by who has looked, and back again."""

from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from tests.app.world import World, add_version, check_plain_error, check_problem


@pytest.fixture(scope="module")
def versions(world: World) -> list[int]:
    return [add_version(world.services, world.base, seed)[0] for seed in (1, 2)]


def move(client: TestClient, alias: str, version: int, if_match: str | None = None) -> Response:
    headers = {} if if_match is None else {"If-Match": if_match}
    return client.put(f"/v1/aliases/{alias}", json={"version": version, "reason": f"to {version}"}, headers=headers)


def history(client: TestClient, alias: str) -> list[tuple[Any, ...]]:
    items = client.get(f"/v1/aliases/{alias}/history").json()["items"]
    return [(item["from_version"], item["to_version"], item["reason"]) for item in items]


def test_there_are_as_many_aliases_as_one_wants(world: World, versions: list[int]) -> None:
    for name in ("canary", "shadow", "v1.2_x-y"):
        moved = move(world.client, name, versions[0])
        assert moved.status_code == 200, moved.text
        assert (moved.json()["name"], moved.json()["version"]) == (name, versions[0])
        assert history(world.client, name) == [(None, versions[0], f"to {versions[0]}")]
    listed = world.client.get("/v1/aliases").json()["items"]
    assert [alias["name"] for alias in listed] == ["active", "canary", "shadow", "v1.2_x-y"]
    assert world.services.versions.active is not None
    assert world.services.versions.active.version_id == listed[0]["version"]  # none of them changed what answers


@pytest.mark.parametrize("name", ["Active", "1st", "x" * 65, "a b", "-"])
def test_a_name_that_is_none_is_refused(client: TestClient, name: str) -> None:
    check_problem(move(client, name, 1), 422, "invalid_request")


@pytest.mark.parametrize("alias", ["active", "tested"])
def test_who_has_not_seen_the_last_move_cannot_move_it(world: World, versions: list[int], alias: str) -> None:
    first, second = versions
    tag = move(world.client, alias, first).headers["etag"]
    assert world.client.get(f"/v1/aliases/{alias}").headers["etag"] == tag
    moved = move(world.client, alias, second, tag)
    assert moved.status_code == 200
    assert moved.headers["etag"] != tag
    before = history(world.client, alias)
    problem = check_problem(move(world.client, alias, first, tag), 412, "alias_moved")
    assert moved.headers["etag"] in problem["detail"]
    for never_given in ('"0"', f"W/{moved.headers['etag']}", "x", '"x"', ""):
        check_problem(move(world.client, alias, first, never_given), 412, "alias_moved")
    assert history(world.client, alias) == before
    assert world.client.get(f"/v1/aliases/{alias}").json()["version"] == second
    assert move(world.client, alias, first, f"{tag}, {moved.headers['etag']}").status_code == 200
    assert move(world.client, alias, second, "*").status_code == 200


def test_going_away_and_back_is_another_state(world: World, versions: list[int]) -> None:
    first, second = versions
    tag = move(world.client, "looped", first).headers["etag"]
    move(world.client, "looped", second)
    assert move(world.client, "looped", first).headers["etag"] != tag
    check_problem(move(world.client, "looped", second, tag), 412, "alias_moved")


@pytest.mark.parametrize("alias", ["active", "turned"])
def test_a_rollback_undoes_the_last_move_and_the_next_one_the_move_before(
    world: World, versions: list[int], alias: str
) -> None:
    first, second = versions
    third, _ = add_version(world.services, world.base, seed=30)
    for version in (first, second, third):
        move(world.client, alias, version)
    back = world.client.post(f"/v1/aliases/{alias}/rollback", json={"reason": "it was worse"})
    assert back.status_code == 200, back.text
    assert (back.json()["from_version"], back.json()["to_version"], back.json()["version"]) == (third, second, second)
    assert history(world.client, alias)[0] == (third, second, "it was worse")
    stale = world.client.post(f"/v1/aliases/{alias}/rollback", headers={"If-Match": '"1"'})
    check_problem(stale, 412, "alias_moved")

    again = world.client.post(f"/v1/aliases/{alias}/rollback", headers={"If-Match": back.headers["etag"]})
    assert again.json()["version"] == first
    assert history(world.client, alias)[0] == (second, first, "rollback")
    if alias == "active":
        assert world.client.get("/v1/system").json()["serving_version"] == first

    move(world.client, alias, third)  # what was rolled back from does not come back below it
    assert world.client.post(f"/v1/aliases/{alias}/rollback").json()["version"] == first
    steps = [(third, first, "rollback"), (first, third, f"to {third}"), (second, first, "rollback")]
    assert history(world.client, alias)[:3] == steps


def test_the_end_of_the_stack_is_told_and_a_move_to_the_same_version_is_no_step(
    world: World, versions: list[int]
) -> None:
    first, second = versions
    for version in (first, first, second, second):
        move(world.client, "short", version)
    assert world.client.post("/v1/aliases/short/rollback").json()["version"] == first
    for _ in range(2):
        problem = check_problem(world.client.post("/v1/aliases/short/rollback"), 409, "conflict")
        assert "has no earlier version" in problem["detail"]
    assert world.client.get("/v1/aliases/short").json()["version"] == first


@pytest.mark.parametrize("alias", ["canary", "shadow", "mine"])
def test_an_alias_is_not_moved_to_a_version_whose_parts_are_damaged(world: World, alias: str) -> None:
    version, sha256 = add_version(world.services, world.base, seed=31)
    path = world.services.blobs.fetch(sha256)
    path.write_bytes(path.read_bytes()[:-1] + b"\0\1")
    before = world.client.get("/v1/aliases").json()
    problem = check_problem(
        world.client.put(f"/v1/aliases/{alias}", json={"version": version}), 409, "version_not_loaded"
    )
    assert sha256 in problem["detail"]
    assert world.client.get("/v1/aliases").json() == before
    ready = world.client.get(f"/v2/models/paintbox/versions/{version}/ready")
    assert sha256 in check_plain_error(ready, 409)
    assert world.client.get("/v2/models/paintbox/versions/1/ready").status_code == 200


def test_what_never_moved_cannot_go_back(world: World, versions: list[int]) -> None:
    move(world.client, "still", versions[0])
    check_problem(world.client.post("/v1/aliases/still/rollback"), 409, "conflict")
    check_problem(world.client.post("/v1/aliases/nothing/rollback"), 404, "not_found")


def delete(client: TestClient, alias: str, if_match: str | None = None, **query: str) -> Response:
    headers = {} if if_match is None else {"If-Match": if_match}
    return client.delete(f"/v1/aliases/{alias}", params=query, headers=headers)


def test_a_deleted_alias_is_gone_and_its_history_tells_of_it(world: World, versions: list[int]) -> None:
    first = move(world.client, "passing", versions[0]).headers["etag"]
    second = move(world.client, "passing", versions[1]).headers["etag"]
    check_problem(delete(world.client, "passing", first), 412, "alias_moved")
    deleted = delete(world.client, "passing", second, reason="done with it")
    assert (deleted.status_code, deleted.content) == (204, b"")
    check_problem(world.client.get("/v1/aliases/passing"), 404, "not_found")
    assert "passing" not in [item["name"] for item in world.client.get("/v1/aliases").json()["items"]]
    assert history(world.client, "passing")[0] == (versions[1], None, "done with it")
    check_problem(delete(world.client, "passing"), 404, "not_found")
    check_problem(world.client.post("/v1/aliases/passing/rollback"), 404, "not_found")
    again = move(world.client, "passing", versions[0])
    assert again.headers["etag"] not in (first, second)
    assert history(world.client, "passing")[0] == (None, versions[0], f"to {versions[0]}")


def test_active_cannot_be_deleted(world: World) -> None:
    before = world.client.get("/v1/aliases/active").json()
    check_problem(delete(world.client, "active"), 409, "conflict")
    assert world.client.get("/v1/aliases/active").json() == before


@pytest.mark.parametrize("tag", ["*", '"0"', '"1"'])
def test_a_condition_on_an_alias_that_is_not_there_makes_none(world: World, versions: list[int], tag: str) -> None:
    check_problem(move(world.client, "absent", versions[0], tag), 412, "alias_moved")
    check_problem(world.client.get("/v1/aliases/absent"), 404, "not_found")
    move(world.client, "gone", versions[0])
    delete(world.client, "gone")
    check_problem(move(world.client, "gone", versions[0], tag), 412, "alias_moved")
