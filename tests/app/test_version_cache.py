"""Versions asked for by number are loaded when they are needed, once, and kept as long as there is room."""

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.http.errors import VersionNotLoadedError
from app.models.served_model import ServedModel
from contract.lineage import Lineage
from paint_core.evaluation import check_probe, probe_features
from paint_core.weights import save_task_vector, task_vector
from registry.errors import ConflictError, NotFoundError
from registry.versions import TermSpec, Versions
from tests.app.world import World, add_version, mixed_tower, open_world, random_task_vector


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("cache")) as world:
        yield world


def get(world: World, name: str | int) -> ServedModel:
    """The version, asked for on the application's event loop."""
    assert world.client.portal is not None
    return world.client.portal.call(world.services.versions.get, name)


def tower_bytes(world: World) -> int:
    return sum(each.nbytes for each in world.base.visual.state_dict().values())


def test_a_version_is_found_by_number_and_loaded_once(opened: World) -> None:
    version, _ = add_version(opened.services, opened.base, seed=1)
    model = get(opened, version)
    assert model.version_id == version
    expected = probe_features(mixed_tower(opened.base, random_task_vector(opened.base, 1), 1.0), opened.base)
    check_probe(probe_features(model.visual, opened.base), expected)
    assert get(opened, str(version)) is model
    assert get(opened, version) is model


def test_what_aliases_name_is_what_serves(opened: World) -> None:
    versions, version = opened.services.versions, add_version(opened.services, opened.base, seed=2)[0]
    assert get(opened, "active") is versions.active
    assert get(opened, 1) is versions.active
    with pytest.raises(NotFoundError, match="GET /v1/aliases") as caught:
        get(opened, "canary")
    assert "'canary'" in caught.value.detail
    opened.client.put("/v1/aliases/canary", json={"version": version})
    opened.services.follower.follow()
    assert get(opened, "canary") is versions.serving("canary") is get(opened, version)
    opened.client.put("/v1/aliases/mine", json={"version": version})
    assert get(opened, "mine") is versions.serving("canary")
    opened.client.delete("/v1/aliases/canary")
    opened.services.follower.follow()
    assert versions.serving("canary") is None
    assert get(opened, "mine").version_id == version


@pytest.mark.parametrize("name", [0, -1, 999, "999", "9" * 30, "nobody", "", "٣", "1.0", "-1"])
def test_what_is_neither_a_version_nor_an_alias_is_not_found(opened: World, name: str | int) -> None:
    with pytest.raises(NotFoundError):
        get(opened, name)


def test_many_who_ask_at_once_get_one_load(opened: World) -> None:
    version, _ = add_version(opened.services, opened.base, seed=3)
    ready = threading.Barrier(8)

    def ask(_: int) -> ServedModel:
        ready.wait()
        return get(opened, version)

    with ThreadPoolExecutor(8) as pool:
        models = list(pool.map(ask, range(8)))
    assert len(set(map(id, models))) == 1


def test_the_event_loop_is_free_while_a_version_is_loaded(opened: World) -> None:
    version, _ = add_version(opened.services, opened.base, seed=4)
    with ThreadPoolExecutor(1) as pool:
        with opened.services.versions._loading:  # as if another load went on
            asked = pool.submit(get, opened, version)
            assert opened.client.get("/livez").status_code == 200
            assert get(opened, "active").version_id == 1
            assert not asked.done()
        assert asked.result(timeout=30).version_id == version


def test_a_version_in_the_trash_is_refused_though_it_was_in_memory(opened: World) -> None:
    version, _ = add_version(opened.services, opened.base, seed=5)
    model = get(opened, version)
    assert opened.client.delete(f"/v1/versions/{version}").is_success
    with pytest.raises(ConflictError, match="trash"):
        get(opened, version)
    assert opened.services.versions.in_memory(version) is None
    assert opened.client.post(f"/v1/versions/{version}/restore").is_success
    assert get(opened, version) is not model


def test_what_cannot_be_loaded_says_why_and_is_tried_again(opened: World) -> None:
    version, sha256 = add_version(opened.services, opened.base, seed=6)
    path = opened.services.blobs.fetch(sha256)
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(VersionNotLoadedError, match=sha256):
        get(opened, version)
    path.write_bytes(data)
    assert get(opened, version).version_id == version


def test_an_alias_that_moves_to_a_cached_version_finds_it_loaded(opened: World) -> None:
    version, _ = add_version(opened.services, opened.base, seed=7)
    model = get(opened, version)
    for sha256 in {term.task_vector_sha256 for term in _terms(opened, version)}:
        opened.services.blobs.delete(sha256)  # so it could not be loaded again
    assert opened.client.put("/v1/aliases/active", json={"version": version}).status_code == 200
    assert opened.services.versions.active is model
    assert opened.client.put("/v1/aliases/active", json={"version": 1}).status_code == 200


def test_what_was_active_is_kept_so_that_going_back_needs_nothing(opened: World) -> None:
    version, sha256 = add_version(opened.services, opened.base, seed=8)
    put = opened.client.put
    assert put("/v1/aliases/active", json={"version": version}).status_code == 200
    model = opened.services.versions.active
    assert put("/v1/aliases/active", json={"version": 1}).status_code == 200
    opened.services.blobs.delete(sha256)
    assert opened.services.versions.in_memory(version) is model
    assert put("/v1/aliases/active", json={"version": version}).status_code == 200
    assert opened.services.versions.active is model
    assert put("/v1/aliases/active", json={"version": 1}).status_code == 200


def test_room_is_counted_in_bytes_and_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    room = 2  # towers
    with open_world(tmp_path) as world:
        size = 2 * tower_bytes(world)  # the runtime packs the weights anew
    with open_world(tmp_path, version_cache_bytes=room * size + size // 2) as world:
        first, second, third = (add_version(world.services, world.base, seed=seed)[0] for seed in (1, 2, 3))
        kept = get(world, first)
        gone = weakref.ref(get(world, second))
        assert kept.own_bytes == pytest.approx(size, rel=0.01)
        get(world, first)  # used last, so the second one goes
        get(world, third)
        versions = world.services.versions
        assert [versions.in_memory(each) is not None for each in (first, second, third)] == [True, False, True]
        assert versions.cached_bytes == pytest.approx(room * size, rel=0.01)
        gc.collect()
        assert gone() is None


def test_a_version_takes_only_what_its_terms_change_and_lives_while_it_is_used(tmp_path: Path) -> None:
    with open_world(tmp_path, version_cache_bytes=0) as world:
        base, services = world.base, world.services
        theta, name = base.visual.state_dict(), "head.proj.weight"
        tau = task_vector(theta, theta | {name: theta[name] + 0.01})
        sha256 = services.blobs.put_bytes(save_task_vector(tau, {}))
        probe = probe_features(mixed_tower(base, tau, 1.0), base).tolist()
        with services.database.write() as session:
            registry = Versions(session)
            registry.add_task_vector(
                sha256=sha256, base_fingerprint=base.fingerprint, num_bytes=1, relative_norm=0.1, job_id="job_test"
            )
            row = registry.register(
                name="a part",
                base_fingerprint=base.fingerprint,
                terms=[TermSpec(sha256, 1.0)],
                probe=probe,
                lineage=Lineage(),
            )
            version = row.id
        model = get(world, version)
        assert model.own_bytes == tau[name].nbytes + model.runner.num_bytes
        assert services.versions.in_memory(version) is None  # there is no room to keep it
        assert get(world, version) is not model


def _terms(world: World, version: int) -> list[TermSpec]:
    with world.services.database.read() as session:
        return Versions(session).terms(version)
