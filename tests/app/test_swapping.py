"""Swaps: failures change nothing, requests end on the version they began with, and the old one's memory returns."""

import gc
import resource
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch

from app.models.served_model import ServedModel
from contract.lineage import Lineage
from paint_core.evaluation import probe_features
from paint_core.weights import save_task_vector
from pipeline.programs import ProgramStore
from registry.versions import TermSpec, Versions
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
from tests.paint_core import towers

LABELS = ["pizza", "taco", "digit zero"]
IMAGES = list(digit_pngs(0)[:32])
NUM_SWAPS = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An application that keeps no version that is not named, so that each swap builds one."""
    with open_world(tmp_path_factory.mktemp("app"), version_cache_bytes=0) as opened:
        yield opened


def activate(world: World, version: int) -> Any:
    return world.client.put("/v1/aliases/active", json={"version": version})


def classify(client: httpx2.Client, images: list[bytes]) -> httpx2.Response:
    files = [("images", ("image.png", image)) for image in images]
    return client.post("/v1/classify", files=files, data={"candidate_labels": LABELS})


def serving(world: World) -> int:
    answer = classify(world.client, IMAGES[:1])
    assert answer.status_code == 200, answer.text
    assert answer.headers["paintbox-version"] == str(answer.json()["version"])
    return int(answer.json()["version"])


def check_nothing_moved(world: World, version: int, words: str) -> None:
    """Refuse the version for a reason that names these words, while the one before goes on under its name."""
    before, moves = serving(world), world.client.get("/v1/aliases/active/history").json()
    problem = check_problem(activate(world, version), 409, "activation_failed")
    assert words in problem["detail"]
    assert serving(world) == before
    assert world.client.get("/v1/aliases/active").json()["version"] == before
    assert world.client.get("/v1/aliases/active/history").json() == moves


def test_a_missing_a_changed_and_a_cut_task_vector_each_leave_the_old_version_serving(world: World) -> None:
    version, sha256 = add_version(world.services, world.base, seed=21)
    path = world.services.blobs.fetch(sha256)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    check_nothing_moved(world, version, f"Blob {sha256} is corrupt: its hash is")
    path.write_bytes(data[: len(data) // 2])
    check_nothing_moved(world, version, f"Blob {sha256} is corrupt: its hash is")
    path.unlink()
    check_nothing_moved(world, version, f"Blob {sha256} is missing")
    path.write_bytes(data)
    assert activate(world, version).status_code == 200
    assert activate(world, 1).status_code == 200


def register(world: World, data: bytes, coefficient: float, probe: list[Any] | None = None) -> int:
    """A version of one term whose task vector is this file; by default its probe is the base's."""
    sha256 = world.services.blobs.put_bytes(data)
    with world.services.database.write() as session:
        versions = Versions(session)
        versions.add_task_vector(
            sha256=sha256, base_fingerprint=world.base.fingerprint, num_bytes=1, relative_norm=0.1, job_id="job_test"
        )
        row = versions.register(
            name="a test",
            base_fingerprint=world.base.fingerprint,
            terms=[TermSpec(sha256, coefficient)],
            probe=probe or probe_features(world.base.visual, world.base).tolist(),
            lineage=Lineage(),
        )
        return row.id


def test_a_mix_that_is_not_finite_is_refused(world: World) -> None:
    tau = random_task_vector(world.base, 22)
    name = sorted(tau)[0]
    tau[name] = torch.full_like(tau[name], 3e38)
    check_nothing_moved(world, register(world, save_task_vector(tau, {}), 2.0), f"{name} would contain NaN or inf")


def test_a_mix_whose_answers_are_not_those_that_were_registered_is_refused(world: World) -> None:
    version = register(world, save_task_vector(random_task_vector(world.base, 23), {}), 1.0)
    check_nothing_moved(world, version, "probe cosine")


def test_a_task_vector_whose_header_promises_more_than_there_is_is_refused(world: World) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    data = len(header).to_bytes(8, "little") + header + b"\0" * 64
    check_nothing_moved(world, register(world, data, 1.0), "not a readable safetensors file")


@contextmanager
def little_memory(more_bytes: int) -> Iterator[None]:
    """Let this process map only so much more than it has, as a container's limit or a full machine would."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    now = next(1024 * int(queue.split()[1]) for queue in status if queue.startswith("VmSize"))
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + more_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_a_version_for_which_there_is_no_memory_is_refused_and_loads_once_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In PyTorch: else what the cached version's session gives back would be enough.
    monkeypatch.setattr(ProgramStore, "find", lambda *_: None)
    # Two of its tensors take 50 MB: malloc asks the system for each.
    wide = {**towers.VIT, "layers": 1, "width": 1024, "head_width": 64, "mlp_ratio": 12.0}
    towers.random_base(tmp_path / "model", wide)
    with open_world(tmp_path, bases=(f"local-dir:{tmp_path / 'model'}",)) as world:
        version, _ = add_version(world.services, world.base, seed=24, coefficient=0.01)
        assert world.client.portal is not None
        world.client.portal.call(world.services.versions.get, add_small_version(world))
        assert world.services.versions.cached_bytes > 0
        before = serving(world)
        with little_memory(24 << 20):
            problem = check_problem(activate(world, version), 409, "activation_failed")
            assert "not enough memory" in problem["detail"]
            assert serving(world) == before
        assert world.services.versions.cached_bytes == 0  # what was only kept for later went first
        assert world.client.get("/v1/aliases/active").json()["version"] == before
        assert activate(world, version).status_code == 200
        assert serving(world) == version


def add_small_version(world: World) -> int:
    """A version that differs from its base in one small tensor only."""
    tau = {name: torch.zeros_like(each) for name, each in world.base.visual.state_dict().items()}
    tau["proj"] += 1e-4
    probe = probe_features(mixed_tower(world.base, tau, 1.0), world.base).tolist()
    return register(world, save_task_vector(tau, {}), 1.0, probe)


@dataclass(frozen=True)
class Answered:
    """An answer, and when it was there."""

    response: httpx2.Response
    at: float


def test_requests_under_way_end_on_their_version_and_then_its_memory_returns(world: World) -> None:
    old, new = (add_version(world.services, world.base, seed=seed)[0] for seed in (25, 26))
    expected = {
        version: expected_cosines(
            world.base, mixed_tower(world.base, random_task_vector(world.base, seed), 1.0), IMAGES, LABELS
        )
        for version, seed in ((old, 25), (new, 26))
    }
    assert activate(world, old).status_code == 200
    served = world.services.versions.active
    assert served is not None
    alive, tower = weakref.ref(served), weakref.ref(served.visual)
    del served
    answers: list[Answered] = []
    is_swapped = threading.Event()

    def ask(url: str) -> None:
        with httpx2.Client(base_url=url, timeout=60) as client:
            while not is_swapped.is_set():
                answers.append(Answered(classify(client, IMAGES), time.monotonic()))

    with serve(world) as url:
        threads = [threading.Thread(target=ask, args=(url,)) for _ in range(12)]
        for thread in threads:
            thread.start()
        while world.services.engine.admission.num_images < 8 * len(IMAGES):
            time.sleep(0.001)
        assert activate(world, new).status_code == 200
        swapped = time.monotonic()
        is_swapped.set()
        for thread in threads:
            thread.join()

    assert {answer.response.status_code for answer in answers} == {200}
    bodies = [answer.response.json() for answer in answers]
    assert {body["version"] for body in bodies} >= {old}
    assert any(body["version"] == old and answer.at > swapped for body, answer in zip(bodies, answers, strict=True))
    for body in bodies:
        rows = [{each["label"]: each["cosine"] for each in result["predictions"]} for result in body["results"]]
        cosines = torch.tensor([[row[label] for label in LABELS] for row in rows])
        torch.testing.assert_close(cosines, expected[body["version"]], atol=1e-4, rtol=0)
    assert is_gone(alive)
    assert is_gone(tower)


def is_gone(reference: weakref.ref[Any], within_seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + within_seconds
    while reference() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    return reference() is None


def test_swapping_back_and_forth_leaves_no_model_behind(world: World) -> None:
    pair = [add_version(world.services, world.base, seed=seed, coefficient=0.5)[0] for seed in (27, 28)]
    for version in pair:
        assert activate(world, version).status_code == 200
        assert serving(world) == version
    before, towers_seen = count_models(), []
    for index in range(NUM_SWAPS):
        world.services.follower.activate(pair[index % 2], actor="a test", reason="back and forth")
        served = world.services.versions.active
        assert served is not None
        towers_seen.append(weakref.ref(served.visual))
        del served
    assert serving(world) == pair[(NUM_SWAPS - 1) % 2]
    assert count_models() == before
    assert sum(reference() is not None for reference in towers_seen) == 1


def count_models() -> int:
    gc.collect()
    return sum(type(each) is ServedModel for each in gc.get_objects())
