"""How many requests a key may make: counted in this process or, over a real Valkey, by all of them together."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.access.limits import RateLimits
from app.http.errors import RateLimitedError
from contract.access import Scope
from registry.keys import ApiKeys
from tests.app.conftest import free_port
from tests.app.world import World, check_plain_error, check_problem, open_world

LIMIT = 5


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("limited"), rate_limit=f"{LIMIT}/minute") as world:
        yield world


def new_key(world: World, scope: Scope = Scope.ADMIN) -> dict[str, str]:
    with world.services.database.write() as session:
        _, token = ApiKeys(session).create(name="x", scopes=[scope], expires_at=None, created_by="a test")
    world.services.keyring.reload()
    return {"authorization": f"Bearer {token}"}


def allowed(limits: RateLimits, key_id: str, num_requests: int) -> int:
    """How many of these requests are let through."""

    async def count() -> int:
        passed = 0
        for _ in range(num_requests):
            try:
                await limits.count(key_id)
            except RateLimitedError:
                continue
            passed += 1
        return passed

    return asyncio.run(count())


def test_a_key_is_refused_once_it_has_made_its_requests_and_others_are_not(limited: World) -> None:
    first, second = new_key(limited), new_key(limited)
    for _ in range(LIMIT):
        assert limited.client.get("/v1/system", headers=first).status_code == 200
    response = limited.client.get("/v1/system", headers=first)
    problem = check_problem(response, 429, "rate_limited")
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert f"{LIMIT} requests in 60 s" in problem["detail"]
    assert limited.client.get("/v1/system", headers=second).status_code == 200


def test_probes_and_metrics_are_never_refused(limited: World) -> None:
    key = new_key(limited)
    for path in ("/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"):
        assert [limited.client.get(path, headers=key).status_code for _ in range(LIMIT + 2)] == [200] * (LIMIT + 2)
    assert limited.client.get("/v1/system", headers=key).status_code == 200


def test_requests_in_other_protocols_are_counted_with_the_rest(limited: World) -> None:
    key = new_key(limited)
    for _ in range(LIMIT):
        assert limited.client.get("/v2", headers=key).status_code == 200
    response = limited.client.post("/hf/zero-shot-image-classification", headers=key)
    assert f"{LIMIT} requests in 60 s" in check_plain_error(response, 429)
    assert int(response.headers["retry-after"]) >= 1
    check_problem(limited.client.get("/v1/system", headers=key), 429, "rate_limited")


def test_requests_that_are_refused_otherwise_count_too(limited: World) -> None:
    key = new_key(limited, Scope.CLASSIFY)
    for _ in range(LIMIT):
        check_problem(limited.client.get("/v1/jobs", headers=key), 403, "scope_missing")
    check_problem(limited.client.get("/v1/jobs", headers=key), 429, "rate_limited")


def test_without_a_key_and_without_a_limit_nothing_is_counted(tmp_path: Path) -> None:
    with open_world(tmp_path, rate_limit="1/minute") as world:
        assert [world.client.get("/v1/system").status_code for _ in range(3)] == [200] * 3
    assert allowed(RateLimits("", None), "key_1", 100) == 100


def test_the_tightest_of_several_limits_holds() -> None:
    assert allowed(RateLimits("100/hour;3/minute", None), "key_1", 10) == 3


def test_processes_count_together_over_valkey(broker_url: str) -> None:
    here, elsewhere = RateLimits("5/minute", broker_url), RateLimits("5/minute", broker_url)
    assert allowed(here, "key_1", 3) == 3
    assert allowed(elsewhere, "key_1", 3) == 2
    assert allowed(here, "key_2", 3) == 3
    with redis.Redis.from_url(broker_url) as probe:
        names = [name.decode() for name in probe.scan_iter()]
        assert names
        assert all("paintbox.limits" in name and probe.ttl(name) > 0 for name in names)


def test_while_valkey_is_away_a_process_counts_for_itself_without_waiting() -> None:
    limits = RateLimits("5/minute", f"redis://127.0.0.1:{free_port()}/0")
    start = time.monotonic()
    assert allowed(limits, "key_1", 20) == 5
    assert time.monotonic() - start < 2
