"""Moving the alias: verified before, dropped nothing, mixed nothing (what fails: `test_swapping.py`)."""

import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import torch
from starlette.testclient import TestClient

from contract.versions import ACTIVE_ALIAS
from registry.aliases import Aliases
from tests.app.world import (
    World,
    add_version,
    check_problem,
    expected_cosines,
    mixed_tower,
    open_world,
    random_task_vector,
    serve,
)
from tests.builders import digit_pngs

LABELS = ["pizza", "taco", "digit zero"]
IMAGES = [digit_pngs(0)[0], digit_pngs(1)[0], digit_pngs(7)[0]]


def _activate(client: TestClient, version: int, **body: Any) -> Any:
    return client.put("/v1/aliases/active", json={"version": version, **body})


def _classify(client: TestClient | httpx2.Client) -> httpx2.Response:
    files = [("images", ("image.png", image)) for image in IMAGES]
    return client.post("/v1/classify", files=files, data={"candidate_labels": LABELS})


def _cosines(answer: dict[str, Any]) -> torch.Tensor:
    rows = [{each["label"]: each["cosine"] for each in result["predictions"]} for result in answer["results"]]
    return torch.tensor([[row[label] for label in LABELS] for row in rows])


def _expected(world: World, seed: int, coefficient: float = 1.0) -> torch.Tensor:
    visual = mixed_tower(world.base, random_task_vector(world.base, seed), coefficient)
    return expected_cosines(world.base, visual, IMAGES, LABELS)


def test_the_first_start_registers_the_bare_base_as_active(tmp_path: Path) -> None:
    for _ in range(2):  # the second start finds what the first one registered
        with open_world(tmp_path) as world:
            (version,) = world.client.get("/v1/versions").json()["items"]
            assert version["id"] == 1
            assert version["terms"] == []
            assert version["is_active"] is True
            history = world.client.get("/v1/aliases/active/history").json()["items"]
            assert [change["to_version"] for change in history] == [1]


def test_an_activated_version_answers_with_the_mixed_weights(world: World) -> None:
    version, sha256 = add_version(world.services, world.base, seed=1, coefficient=0.5)
    response = _activate(world.client, version, reason="a test")
    assert response.status_code == 200
    assert response.json()["version"] == version
    answered = _classify(world.client)
    assert answered.headers["paintbox-version"] == str(version)
    torch.testing.assert_close(_cosines(answered.json()), _expected(world, 1, 0.5), atol=1e-4, rtol=0)
    described = world.client.get(f"/v1/versions/{version}").json()
    assert described["is_active"] is True
    assert described["terms"] == [
        {"task_vector_sha256": sha256, "coefficient": 0.5, "profile": "flat", "kind": "tower"}
    ]
    change = world.client.get("/v1/aliases/active/history").json()["items"][0]
    assert (change["to_version"], change["actor"], change["reason"]) == (version, "api", "a test")


def test_activating_the_active_version_changes_nothing(world: World) -> None:
    version, _ = add_version(world.services, world.base, seed=2)
    _activate(world.client, version)
    served = world.services.versions.active
    before = world.client.get("/v1/aliases/active/history").json()
    assert _activate(world.client, version).status_code == 200
    assert world.services.versions.active is served
    assert world.client.get("/v1/aliases/active/history").json() == before


def _serving(world: World) -> int:
    answered = _classify(world.client)
    assert answered.status_code == 200
    return int(answered.json()["version"])


def test_what_is_not_there_is_not_found(client: TestClient) -> None:
    check_problem(_activate(client, 999), 404, "not_found")
    check_problem(client.get("/v1/versions/999"), 404, "not_found")
    check_problem(client.put("/v1/aliases/other", json={"version": 999}), 404, "not_found")
    check_problem(client.get("/v1/aliases/other"), 404, "not_found")
    check_problem(client.get("/v1/aliases/other/history"), 404, "not_found")
    check_problem(_activate(client, 0), 422, "invalid_request")


def test_one_activation_at_a_time(world: World) -> None:
    version, _ = add_version(world.services, world.base, seed=5)
    follower = world.services.follower
    with follower.busy():
        check_problem(_activate(world.client, version), 409, "activation_in_progress")
        follower.follow()  # gives way instead of waiting
    assert _activate(world.client, version).status_code == 200


def test_a_replica_follows_an_alias_that_somebody_else_moved(world: World) -> None:
    version, _ = add_version(world.services, world.base, seed=6)
    with world.services.database.write() as session:
        Aliases(session).move(ACTIVE_ALIAS, version, actor="another replica", reason="")
    assert _serving(world) != version
    alias = world.client.get("/readyz").json()["checks"]["alias"]
    assert alias["ok"] is False
    world.services.follower.follow()
    assert _serving(world) == version
    assert world.client.get("/readyz").json()["checks"]["alias"]["ok"] is True


def test_a_start_with_a_broken_active_version_is_not_ready_and_can_be_repaired(tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        version, sha256 = add_version(world.services, world.base, seed=7)
        assert _activate(world.client, version).status_code == 200
        world.services.blobs.delete(sha256)
    with open_world(tmp_path) as world:
        problem = check_problem(world.client.get("/readyz"), 503, "model_not_loaded")
        assert sha256 in problem["detail"]
        check_problem(_classify(world.client), 503, "model_not_loaded")
        assert world.client.get("/livez").status_code == 200
        assert _activate(world.client, 1).status_code == 200
        assert _serving(world) == 1
        assert world.client.get("/readyz").status_code == 200


def test_swaps_under_load_drop_no_request_and_mix_no_two_versions(world: World) -> None:
    versions = {add_version(world.services, world.base, seed=seed)[0]: seed for seed in (8, 9)}
    expected = {version: _expected(world, seed) for version, seed in versions.items()}
    first, second = expected.values()
    assert float((first - second).abs().amax(dim=1).min()) > 0.01  # else a mix-up would not show
    assert _activate(world.client, min(versions)).status_code == 200
    answers: list[httpx2.Response] = []
    stop = threading.Event()

    def ask(url: str) -> None:
        with httpx2.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                answers.append(_classify(client))

    with serve(world) as url:
        threads = [threading.Thread(target=ask, args=(url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 3
        swaps = 0
        while time.monotonic() < deadline or swaps < 4:
            for version in reversed(versions):
                assert _activate(world.client, version).status_code == 200
                swaps += 1
        stop.set()
        for thread in threads:
            thread.join()

    assert [answer.status_code for answer in answers if answer.status_code != 200] == []
    seen = {int(answer.headers["paintbox-version"]) for answer in answers}
    assert seen == set(versions)
    for answer in answers:
        body = answer.json()
        assert answer.headers["paintbox-version"] == str(body["version"])
        torch.testing.assert_close(_cosines(body), expected[body["version"]], atol=1e-4, rtol=0)
