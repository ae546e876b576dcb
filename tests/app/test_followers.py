"""The canary answers a share of the requests, always the same ones; the shadow is asked beside and only counted."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from app.inference.choosing import is_in_share
from app.models.served_model import ServedModel
from app.models.shadow import MAX_UNDER_WAY, Answered, Shadow
from app.serving.batch_policy import BatchPolicy
from app.serving.engine import Engine
from paint_core.models import BaseModel
from registry.aliases import Aliases
from tests.app.exposition import find_problems
from tests.app.workers import open_workers, submit
from tests.app.world import (
    World,
    add_version,
    check_problem,
    expected_cosines,
    mixed_tower,
    open_world,
    random_task_vector,
)
from tests.builders import digit_pngs
from tests.support.patterns import patterns

LABELS = ["pizza", "taco", "digit zero", "digit one", "a boat"]
IMAGES = [digit_pngs(digit)[0] for digit in range(8)]
KEYS = [f"asker {number}" for number in range(24)]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path, canary_share=0.5, shadow_share=1.0) as world:
        yield world


def name(world: World, alias: str, version: int) -> None:
    assert world.client.put(f"/v1/aliases/{alias}", json={"version": version}).status_code == 200
    world.services.follower.follow()


def classify(client: TestClient, key: str | None = None, num_images: int = 1) -> dict[str, Any]:
    files = [("images", ("image.png", image)) for image in IMAGES[:num_images]]
    headers = {} if key is None else {"X-Request-Key": key}
    response = client.post("/v1/classify", files=files, data={"candidate_labels": LABELS}, headers=headers)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert response.headers["paintbox-version"] == str(answer["version"])
    return answer


def system(world: World) -> dict[str, Any]:
    described: dict[str, Any] = world.client.get("/v1/system").json()
    return described


def best(world: World, visual: torch.nn.Module) -> list[int]:
    return list(expected_cosines(world.base, visual, IMAGES, LABELS).argmax(dim=1).tolist())


def test_a_share_of_keys_is_as_large_as_it_says_and_grows_without_losing_anybody() -> None:
    keys = [f"key {number}" for number in range(4000)]
    shares = (0.0, 0.1, 0.5, 1.0)
    chosen = [{key for key in keys if is_in_share(key, share)} for share in shares]
    assert [len(each) / len(keys) for each in chosen] == pytest.approx(list(shares), abs=0.03)
    assert chosen[0] == set()
    assert chosen[1] < chosen[2] < chosen[3] == set(keys)


def test_the_canary_answers_the_same_askers_every_time_and_the_answer_tells(opened: World) -> None:
    version, _ = add_version(opened.services, opened.base, seed=1)
    name(opened, "canary", version)
    rounds = [[classify(opened.client, key) for key in KEYS] for _ in range(2)]
    for answers in rounds:
        for key, answer in zip(KEYS, answers, strict=True):
            expected = ("canary", version) if is_in_share(key, 0.5) else ("active", 1)
            assert (answer["alias"], answer["version"]) == expected
    assert {answer["version"] for answer in rounds[0]} == {1, version}
    assert len({classify(opened.client)["version"] for _ in range(5)}) == 1  # by the client's address
    assert system(opened)["canary"] == {"version": version, "serving_version": version, "share": 0.5, "trouble": None}
    assert system(opened)["replicas"][0]["canary_version"] == version

    text = opened.client.get("/metrics").text
    assert list(find_problems(text)) == []
    for each in (1, version):
        assert f'paintbox_classify_duration_seconds_count{{version="{each}"}}' in text
        assert f'paintbox_classify_failures_total{{version="{each}"}} 0.0' in text
    assert f'paintbox_canary_version_info{{version="{version}"}} 1.0' in text

    assert opened.client.put("/v1/aliases/active", json={"version": version}).status_code == 200
    assert opened.services.versions.active is opened.services.versions.serving("canary")  # it was loaded already
    assert opened.client.delete("/v1/aliases/canary").status_code == 204
    opened.services.follower.follow()
    assert opened.services.versions.serving("canary") is None
    assert {classify(opened.client, key)["alias"] for key in KEYS} == {"active"}


def test_a_canary_that_cannot_be_loaded_is_told_and_active_answers_for_it(opened: World) -> None:
    version, sha256 = add_version(opened.services, opened.base, seed=2)
    opened.services.blobs.delete(sha256)
    check_problem(opened.client.put("/v1/aliases/canary", json={"version": version}), 409, "version_not_loaded")
    with opened.services.database.write() as session:
        Aliases(session).move("canary", version, actor="another replica", reason="")
    opened.services.follower.follow()
    described = system(opened)["canary"]
    assert (described["version"], described["serving_version"]) == (version, None)
    assert sha256 in described["trouble"]
    assert {classify(opened.client, key)["version"] for key in KEYS} == {1}


def test_the_shadow_is_counted_and_changes_no_answer(opened: World) -> None:
    version, _ = add_version(opened.services, opened.base, seed=3)
    before = classify(opened.client, num_images=len(IMAGES))
    assert system(opened)["comparison"] is None
    name(opened, "shadow", version)
    answer = classify(opened.client, num_images=len(IMAGES))
    assert (answer["version"], answer["results"]) == (1, before["results"])
    deadline = time.monotonic() + 10
    while system(opened)["comparison"] is None and time.monotonic() < deadline:
        time.sleep(0.02)
    tower = mixed_tower(opened.base, random_task_vector(opened.base, 3), 1.0)
    pairs = list(zip(best(opened, opened.base.visual), best(opened, tower), strict=True))
    agreed = sum(one == other for one, other in pairs)
    assert system(opened)["comparison"] == {
        "active_version": 1,
        "shadow_version": version,
        "agreement": agreed / len(pairs),
        "agreed_images": agreed,
        "differed_images": len(pairs) - agreed,
        "dropped_images": 0,
    }
    text = opened.client.get("/metrics").text
    assert list(find_problems(text)) == []
    assert f'paintbox_shadow_agreement_ratio{{version="{version}"}} {agreed / len(pairs)}' in text
    assert f'paintbox_shadow_images_total{{outcome="agreed",version="{version}"}} {float(agreed)}' in text


class _Gate(torch.nn.Module):
    """An image tower that waits for a signal, and remembers in which order its kind was asked."""

    def __init__(self, inner: torch.nn.Module, mark: str, order: list[str]) -> None:
        super().__init__()
        self.inner, self.mark, self.order = inner, mark, order
        self.entered, self.opened = threading.Event(), threading.Event()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.order.append(self.mark)
        self.entered.set()
        assert self.opened.wait(30)
        features: torch.Tensor = self.inner(images)
        return features


def _served(base: BaseModel, visual: torch.nn.Module, version_id: int) -> ServedModel:
    return ServedModel(version_id, base, visual)


@pytest.mark.parametrize("policy", [BatchPolicy(num_cores=1), BatchPolicy()], ids=["one core", "a device"])
def test_spare_work_waits_until_nothing_else_does(world: World, policy: BatchPolicy) -> None:
    base, order = world.base, list[str]()
    towers = {mark: _Gate(base.visual, mark, order) for mark in ("first", "spare", "asked")}
    models = {mark: _served(base, tower, 1) for mark, tower in towers.items()}
    images = patterns(base.image_size, 2)
    with open_workers(policy) as workers:
        futures = [submit(workers, models["first"], images)]
        assert towers["first"].entered.wait(30)
        futures += [
            submit(workers, models["spare"], images, low_priority=True),
            submit(workers, models["asked"], images),
        ]
        for tower in towers.values():
            tower.opened.set()
        for future in futures:
            future.result(30)
    assert order == ["first", "asked", "spare"]


def test_a_busy_shadow_drops_what_comes_and_a_failing_one_is_no_bodys_trouble(world: World) -> None:
    base, gate = world.base, _Gate(world.base.visual, "", [])
    engine = Engine(decode_threads=1, max_queue_images=8)
    images = patterns(base.image_size, 2).numpy()
    answered = Answered(_served(base, base.visual, 1), [b"", b""], images, ("a", "b"), ("{}",), torch.zeros(2))

    async def offer(model: ServedModel, num_requests: int) -> Shadow:
        shadow = Shadow(engine, lambda: model, 1.0)
        for _ in range(num_requests):
            await shadow.offer(answered)
        gate.opened.set()
        while shadow.tally is None or shadow.tally.agreed + shadow.tally.differed + shadow.tally.dropped < (
            num_requests * len(images)
        ):
            await asyncio.sleep(0.01)
        return shadow

    busy = asyncio.run(asyncio.wait_for(offer(_served(base, gate, 2), MAX_UNDER_WAY + 3), 30)).tally
    assert busy is not None
    assert (busy.dropped, busy.agreed + busy.differed) == (3 * len(images), MAX_UNDER_WAY * len(images))
    broken = _served(base, torch.nn.Linear(3, 3), 3)
    failing = asyncio.run(asyncio.wait_for(offer(broken, 1), 30)).tally
    assert failing is not None
    assert (failing.dropped, failing.agreement) == (len(images), None)
    engine.close()
