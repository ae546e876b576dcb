"""A version whose forwards fail says so, heals by one that succeeds, and is left when the device is lost."""

import dataclasses
import subprocess
import sys
import threading
from typing import Any

import pytest
import torch

from app.http.errors import OutOfMemoryError
from app.models.served_model import ServedModel
from app.serving.engine import Engine
from app.serving.health import FAILURES_IN_A_ROW
from paint_core.models import BaseModel, load_base
from tests.app.asking import post_files
from tests.app.test_engine import run
from tests.app.test_leaving import wait_for
from tests.app.world import World, check_plain_error, check_problem, open_world
from tests.builders import digit_pngs

IMAGE = digit_pngs(3)[0]


class Failing(torch.nn.Module):
    """A tower that raises what it is told to."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.error: Exception | None = None
        self.num_forwards = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.num_forwards += 1
        if self.error is not None:
            raise self.error
        features: torch.Tensor = self.inner(images)
        return features


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


def served(base: BaseModel, tower: torch.nn.Module, version_id: int = 1) -> ServedModel:
    return ServedModel(version_id, base, tower)


def ask(world: World) -> Any:
    return post_files(world.client, "/v1/classify", [IMAGE], candidate_labels=["a", "b"])


def test_a_process_whose_forwards_fail_is_not_ready_until_one_succeeds(tmp_path: Any) -> None:
    with open_world(tmp_path) as world:
        versions = world.services.versions
        tower = Failing(world.base.visual)
        versions.swap("active", served(world.base, tower))
        tower.error = RuntimeError("the device is ill")
        for asked in range(FAILURES_IN_A_ROW):
            assert world.client.get("/readyz").status_code == 200, asked
            assert ask(world).status_code == 500
        problem = check_problem(world.client.get("/readyz"), 503, "model_failing")
        assert "3 times in a row (RuntimeError: the device is ill)" in problem["detail"]
        assert "times in a row" in check_plain_error(world.client.get("/v2/health/ready"), 503)
        tower.error = None
        wait_for(lambda: world.client.get("/readyz").status_code == 200)  # by a forward of its own
        assert ask(world).status_code == 200


def test_a_version_that_fails_beside_the_active_one_leaves_the_process_ready(base: BaseModel) -> None:
    engine = Engine(decode_threads=1, max_queue_images=128)
    ill, well = Failing(base.visual), Failing(base.visual)
    ill.error = RuntimeError("ill")
    models = served(base, ill), served(base, well, 2)
    for _ in range(FAILURES_IN_A_ROW):
        with pytest.raises(RuntimeError):
            run(engine.embed_images(models[0], [IMAGE]))
    run(engine.embed_images(models[1], [IMAGE]))
    assert [engine.health.last_error(model) is None for model in models] == [False, True]
    ill.error = None
    run(engine.embed_images(models[0], [IMAGE]))
    assert engine.health.last_error(models[0]) is None
    engine.close()


def test_a_request_for_which_there_is_no_memory_says_so_and_the_next_one_is_answered(tmp_path: Any) -> None:
    with open_world(tmp_path) as world:
        tower = Failing(world.base.visual)
        world.services.versions.swap("active", served(world.base, tower))
        for error in (torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory")):
            tower.error = error
            problem = check_problem(ask(world), 503, "out_of_memory")
            assert "Send fewer" in problem["next"]
        tower.error = None
        assert ask(world).status_code == 200
        failures = 'paintbox_classify_failures_total{version="1"} 2.0'
        assert failures in world.client.get("/metrics").text


@pytest.mark.parametrize("is_text", [False, True], ids=["images", "texts"])
def test_an_error_that_the_device_does_not_get_over_is_told_at_once(base: BaseModel, is_text: bool) -> None:
    fatal: list[Exception] = []
    engine = Engine(decode_threads=1, max_queue_images=128, on_fatal=fatal.append)
    tower = Failing(base.visual)
    lost = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    def raise_lost(texts: list[str]) -> torch.Tensor:
        raise lost

    for error in (torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("another")):
        tower.error = error
        with pytest.raises((RuntimeError, OutOfMemoryError)):
            run(engine.embed_images(served(base, tower), [IMAGE]))
    assert not fatal
    tower.error = lost
    broken = served(dataclasses.replace(base, tokenizer=raise_lost), tower)
    asked = engine.embed_texts(broken, ["a text"]) if is_text else engine.embed_images(broken, [IMAGE])
    with pytest.raises(RuntimeError, match="illegal memory access"):
        run(asked)
    assert fatal == [lost]
    engine.close()


def test_a_process_that_has_lost_its_device_ends_with_a_line_in_its_log() -> None:
    code = "from app.runtime.fatal import end_process; end_process(RuntimeError('the device is lost'))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 70
    assert "the device is lost" in ended.stdout + ended.stderr


def test_while_a_version_fails_it_is_tried_once_at_a_time(base: BaseModel) -> None:
    opened, tower = threading.Event(), Failing(base.visual)
    tower.inner = torch.nn.Sequential(_Waiting(opened), base.visual)
    engine = Engine(decode_threads=1, max_queue_images=128)
    model = served(base, tower)
    for _ in range(5):
        engine.probe(model)
    opened.set()
    engine.close()
    assert tower.num_forwards == 1


class _Waiting(torch.nn.Module):
    def __init__(self, opened: threading.Event) -> None:
        super().__init__()
        self.opened = opened

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert self.opened.wait(30)
        return images
