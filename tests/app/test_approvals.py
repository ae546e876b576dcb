"""With PAINTBOX_APPROVALS, what answers requests changes only after a second admin has agreed."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from httpx2 import Response

from contract.access import Scope
from registry.aliases import Aliases
from registry.approvals import Approvals, MoveRequest
from registry.database import utc_now
from registry.keys import ApiKeys
from registry.tables import AliasApprovalRow
from registry.versions import Versions
from tests.app.world import World, add_version, check_problem, open_world


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("guarded"), approvals=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def keys(guarded: World) -> dict[str, dict[str, str]]:
    """The headers of two admins."""
    with guarded.services.database.write() as session:
        made = {
            name: ApiKeys(session).create(name=name, scopes=[Scope.ADMIN], expires_at=None, created_by="a test")[1]
            for name in ("ann", "bob")
        }
    guarded.services.keyring.reload()
    return {name: {"authorization": f"Bearer {token}"} for name, token in made.items()}


@pytest.fixture
def version(guarded: World) -> int:
    return add_version(guarded.services, guarded.base, seed=1)[0]


def _move(world: World, headers: dict[str, str], version: int, alias: str = "active", **body: Any) -> Response:
    return world.client.put(f"/v1/aliases/{alias}", json={"version": version, **body}, headers=headers)


def _decide(world: World, headers: dict[str, str], approval: str, verb: str, alias: str = "active") -> Response:
    path = f"/v1/aliases/{alias}/approvals/{approval}/{verb}"
    return world.client.post(path, json={"reason": "looked at it"}, headers=headers)


def _state(world: World, headers: dict[str, str], approval: str, alias: str = "active") -> dict[str, Any]:
    items = world.client.get(f"/v1/aliases/{alias}/approvals", headers=headers).json()["items"]
    (found,) = [each for each in items if each["id"] == approval]
    return dict(found)


def test_an_activation_waits_until_another_admin_approves_it(
    guarded: World, keys: dict[str, dict[str, str]], version: int
) -> None:
    before = guarded.client.get("/v1/aliases/active", headers=keys["ann"]).json()["version"]
    asked = _move(guarded, keys["ann"], version, reason="better")
    assert asked.status_code == 202, asked.text
    approval = asked.json()
    assert (approval["alias"], approval["version"], approval["state"]) == ("active", version, "pending")
    assert _move(guarded, keys["ann"], version, reason="better").json() == approval  # a retry asks for the same
    assert guarded.client.get("/v1/aliases/active", headers=keys["ann"]).json()["version"] == before
    problem = check_problem(_decide(guarded, keys["ann"], approval["id"], "approve"), 403, "own_request")
    assert "another admin" in problem["next"]
    moved = _decide(guarded, keys["bob"], approval["id"], "approve")
    assert moved.status_code == 200, moved.text
    assert moved.json()["version"] == version
    assert moved.headers["etag"]
    assert guarded.services.versions.active is not None
    assert guarded.services.versions.active.version_id == version
    (move, *_) = guarded.client.get("/v1/aliases/active/history", headers=keys["ann"]).json()["items"]
    assert move["reason"] == "better"
    assert move["actor"].startswith("ann (")
    assert ", approved by bob (" in move["actor"]
    decided = _state(guarded, keys["ann"], approval["id"])
    assert (decided["state"], decided["decision_reason"]) == ("approved", "looked at it")
    problem = check_problem(_decide(guarded, keys["bob"], approval["id"], "approve"), 409, "conflict")
    assert "is approved by bob" in problem["detail"]
    assert _move(guarded, keys["ann"], version).status_code == 200  # nothing changes
    back = guarded.client.post("/v1/aliases/active/rollback", headers=keys["ann"])
    assert back.json()["version"] == before  # at once: it was served before


def test_a_request_that_is_rejected_or_too_old_or_out_of_date_moves_nothing(
    guarded: World, keys: dict[str, dict[str, str]], version: int
) -> None:
    rejected, late, stale = (
        _move(guarded, keys["ann"], version, "canary", reason=reason).json()["id"] for reason in ("a", "b", "c")
    )
    assert _decide(guarded, keys["ann"], rejected, "reject", "canary").json()["state"] == "rejected"
    with guarded.services.database.write() as session:
        row = session.get(AliasApprovalRow, late)
        assert row is not None
        row.expires_at = utc_now() - timedelta(seconds=1)
    assert _state(guarded, keys["ann"], late, "canary")["state"] == "expired"
    for identifier in (rejected, late):
        for verb in ("approve", "reject"):
            check_problem(_decide(guarded, keys["bob"], identifier, verb, "canary"), 409, "conflict")
    with guarded.services.database.write() as session:
        Aliases(session).move("canary", 1, actor="somebody else", reason="")
    check_problem(_decide(guarded, keys["bob"], stale, "approve", "canary"), 412, "alias_moved")
    assert _state(guarded, keys["ann"], stale, "canary")["state"] == "pending"
    check_problem(_decide(guarded, keys["bob"], stale, "approve"), 404, "not_found")  # of another alias
    check_problem(_decide(guarded, keys["bob"], "ap_nothing", "reject"), 404, "not_found")


def test_the_guard_is_asked_before_the_request_and_at_the_approval(
    guarded: World, keys: dict[str, dict[str, str]], version: int
) -> None:
    broken, sha256 = add_version(guarded.services, guarded.base, seed=2)
    guarded.services.blobs.delete(sha256)
    check_problem(_move(guarded, keys["ann"], broken), 409, "version_not_loaded")
    approval = _move(guarded, keys["ann"], version, reason="good").json()["id"]
    score = {"correct": 90, "total": 100}
    task = {"dataset_id": "ds_food", "name": "food", "role": "supported", "zero_shot": score}
    tasks = [task | {"patched": score | {"correct": 80}}]
    with guarded.services.database.write() as session:
        Versions(session).get(version).evaluation = {"split": "test", "max_supported_drop": 1, "tasks": tasks}
    check_problem(_decide(guarded, keys["bob"], approval, "approve"), 409, "supported_drop")
    check_problem(_move(guarded, keys["ann"], version), 409, "supported_drop")
    forced = _move(guarded, keys["ann"], version, force=True, reason="the fair is tomorrow").json()
    assert forced["forced"] is True
    assert _decide(guarded, keys["bob"], forced["id"], "approve").status_code == 200
    assert _move(guarded, keys["ann"], version, "staging").status_code == 200  # nobody is served by that name


def test_what_a_patch_requests_needs_an_admin_with_a_key(guarded: World, keys: dict[str, dict[str, str]]) -> None:
    requested, _ = add_version(guarded.services, guarded.base, seed=3)
    with guarded.services.database.write() as session:
        revision = Aliases(session).revision("active")
        row = Approvals(session).request(MoveRequest("active", requested, revision, "accepted", "patch pt_1"))
    assert _decide(guarded, keys["ann"], row.id, "approve").json()["version"] == requested


def test_without_keys_nobody_is_a_second_person(tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_world(tmp_path_factory.mktemp("open"), approvals=True) as world:
        added, _ = add_version(world.services, world.base, seed=1)
        approval = _move(world, {}, added).json()["id"]
        problem = check_problem(_decide(world, {}, approval, "approve"), 403, "own_request")
        assert "keys create" in problem["next"]
