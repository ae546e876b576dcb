"""Several API processes over one database: each tells what it serves, and a move of the alias reaches all of them."""

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from registry.database import utc_now
from registry.replicas import Identity, Replicas, Serving
from tests.app.world import World, add_version, open_world


def _replicas(world: World) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in world.client.get("/v1/system").json()["replicas"]}


def _served(world: World) -> set[int | None]:
    return {each["serving_version"] for each in _replicas(world).values()}


def test_a_move_through_one_replica_reaches_the_other_and_both_tell(tmp_path: Path) -> None:
    with open_world(tmp_path) as first, open_world(tmp_path, alias_interval_seconds=0.05) as second:
        own, other = (world.client.get("/v1/system").json()["replica"] for world in (first, second))
        assert own != other
        known = _replicas(first)
        assert list(known) == [own, other]
        assert [known[each]["is_this"] for each in (own, other)] == [True, False]
        assert all(each["is_alive"] and each["serving_version"] == 1 for each in known.values())

        version, _ = add_version(first.services, first.base, seed=1)
        assert first.client.put("/v1/aliases/active", json={"version": version}).status_code == 200
        deadline = time.monotonic() + 60  # each process announces itself at its own time
        while time.monotonic() < deadline and _served(first) | _served(second) != {version}:
            time.sleep(0.05)
        assert _served(first) == _served(second) == {version}
        assert second.client.get("/v1/system").json()["serving_version"] == version


def test_a_replica_that_stops_is_no_longer_listed_and_one_that_is_silent_is_not_alive(tmp_path: Path) -> None:
    with open_world(tmp_path, replica_interval_seconds=0.05) as first:
        with open_world(tmp_path) as second:
            stopped = second.services.replica.identity.id
            assert stopped in _replicas(first)
        assert stopped not in _replicas(first)
        minute_ago = utc_now() - timedelta(minutes=1)
        with first.services.database.write() as session:
            Replicas(session, lambda: minute_ago).announce(Identity("rep_silent", "x:1", minute_ago), Serving(1))
        known = _replicas(first)
        assert not known["rep_silent"]["is_alive"]
        assert known[first.services.replica.identity.id]["is_alive"]
