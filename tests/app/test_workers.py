"""Images of many requests go through the model together, never two models in one batch."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F

from app.models.served_model import ServedModel
from app.serving.batch_policy import BatchPolicy
from app.serving.cpu_workers import CpuWorkers
from app.serving.model import MAX_BATCH_IMAGES
from app.serving.request import InferenceRequest
from paint_core.evaluation import encode, probe_images
from paint_core.models import BaseModel, load_base
from tests.app.gate import Gate
from tests.app.workers import Workers, open_workers, submit
from tests.builders import digit_pngs
from tests.support.patterns import patterns

ONE_AT_A_TIME = {"one core": BatchPolicy(max_images=64, num_cores=1), "a device": BatchPolicy(max_images=64)}
TWO_CORES = BatchPolicy(max_images=64, num_cores=2)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


@pytest.fixture(params=[*ONE_AT_A_TIME.values(), TWO_CORES], ids=[*ONE_AT_A_TIME, "two cores"])
def any_workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    with open_workers(request.param) as workers:
        yield workers


@pytest.fixture(params=ONE_AT_A_TIME.values(), ids=list(ONE_AT_A_TIME))
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    """One that does one forward at a time."""
    with open_workers(request.param) as workers:
        yield workers


def _served(
    base: BaseModel, visual: torch.nn.Module, version_id: int = 1, image_seconds: float | None = None
) -> ServedModel:
    model = ServedModel(version_id, base, visual)
    if image_seconds is not None:
        model.runner.image_seconds = image_seconds
    return model


def test_each_request_gets_its_own_images_features(base: BaseModel, any_workers: Workers) -> None:
    images = patterns(base.image_size, 9)
    model = _served(base, base.visual)
    parts = [images[:2], images[2:3], images[3:9]]
    futures = [submit(any_workers, model, part) for part in parts]
    expected = F.normalize(encode(base.visual, images, base.preprocess), dim=-1)
    features = torch.cat([each.result(30).features for each in futures])
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


def test_what_waits_while_the_device_works_is_forwarded_together_up_to_the_limit(
    base: BaseModel, workers: Workers
) -> None:
    gate = Gate(base.visual)
    model = _served(base, gate, image_seconds=0.0)  # else a batch of a busy machine holds fewer
    images = patterns(base.image_size, 30)
    first = submit(workers, model, images[:1])
    assert gate.entered.wait(30)
    waiting = [submit(workers, model, images) for _ in range(3)]
    gate.opened.set()
    assert [len(each.result(30).features) for each in [first, *waiting]] == [1, 30, 30, 30]
    assert gate.batch_sizes == [1, 64, 26]
    assert max(gate.batch_sizes) <= MAX_BATCH_IMAGES


def test_a_batch_never_holds_two_models(base: BaseModel, workers: Workers) -> None:
    old, new = Gate(base.visual), Gate(base.visual)
    new.opened.set()
    images = patterns(base.image_size, 2)
    models = {"old": _served(base, old), "new": _served(base, new, 2)}
    futures = [submit(workers, models["old"], images[:1])]
    assert old.entered.wait(30)
    futures += [submit(workers, models[name], images) for name in ("old", "new", "old", "new")]
    old.opened.set()
    for future in futures:
        future.result(30)
    assert old.batch_sizes == [1, 4]  # the later two images join, past those of the other model
    assert new.batch_sizes == [4]


def test_a_forward_that_fails_fails_its_requests_only(base: BaseModel, any_workers: Workers) -> None:
    broken = _served(base, torch.nn.Linear(3, 3))
    images = patterns(base.image_size, 1)
    for _ in range(3):  # more often than there are threads
        with pytest.raises(RuntimeError):
            submit(any_workers, broken, images).result(30)
    assert len(submit(any_workers, _served(base, base.visual), images).result(30).features) == 1


def test_closing_finishes_what_is_queued(base: BaseModel, any_workers: Workers) -> None:
    future = submit(any_workers, _served(base, base.visual), probe_images(base.image_size))
    any_workers.close()
    assert len(future.result(0).features) == 4
    with pytest.raises(RuntimeError):
        submit(any_workers, _served(base, base.visual), probe_images(base.image_size))


def test_two_cores_forward_two_batches_at_once(base: BaseModel) -> None:
    gates = [Gate(base.visual), Gate(base.visual)]
    images = patterns(base.image_size, 1)
    with open_workers(TWO_CORES) as workers:
        futures = [
            submit(workers, _served(base, gate, version_id, image_seconds=0.0), images)
            for version_id, gate in enumerate(gates)
        ]
        entered = [gate.entered.wait(30) for gate in gates]
        assert not any(future.done() for future in futures)
        for gate in gates:
            gate.opened.set()
        assert entered == [True, True]
        assert [len(future.result(30).features) for future in futures] == [1, 1]


def _wait_until_free(workers: Workers) -> None:
    """Wait for all cores: an answer is out a little before its core is free."""
    assert isinstance(workers, CpuWorkers)
    while workers._queue._num_free < TWO_CORES.num_cores:
        time.sleep(0.001)


class _Counting(torch.nn.Module):
    """A tower that keeps how many threads torch had for each batch."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.num_threads: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.num_threads.append(torch.get_num_threads())
        features: torch.Tensor = self.inner(images)
        return features


def test_a_forward_runs_with_as_many_threads_as_it_was_given_cores(base: BaseModel) -> None:
    image, tower = patterns(base.image_size, 1), _Counting(base.visual)
    with open_workers(TWO_CORES) as workers:
        for image_seconds in (60.0, 0.0, 60.0, 0.0):
            _wait_until_free(workers)
            submit(workers, _served(base, tower, image_seconds=image_seconds), image).result(30)
    assert tower.num_threads == [2, 1, 2, 1]


@dataclass(eq=False)
class _Held(InferenceRequest):
    """A request whose images take until `opened` is set to be decoded."""

    entered: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def decode_image(self, index: int) -> None:
        self.entered.set()
        assert self.opened.wait(30)
        super().decode_image(index)


@pytest.mark.parametrize("policy", [TWO_CORES, BatchPolicy(wait_seconds=0.05)], ids=["two cores", "a device"])
def test_an_image_that_is_slow_to_decode_holds_up_others_only_so_long(base: BaseModel, policy: BatchPolicy) -> None:
    model, image = _served(base, base.visual), digit_pngs(3)[0]
    held = _Held.of_images(model, [image])
    with open_workers(policy) as workers:
        workers.put(held)
        assert held.entered.wait(30)
        others = [InferenceRequest(model, patterns(base.image_size, 2).numpy())]
        if policy.num_cores:  # then another core decodes, too
            others.append(InferenceRequest.of_images(model, [image] * 3))
        for other in others:
            workers.put(other)
        sizes = [len(other.answer.result(30).features) for other in others]
        assert not held.answer.done()
        held.opened.set()
        assert sizes == [2, 3][: len(others)]
        assert len(held.answer.result(30).features) == 1


@pytest.mark.parametrize("policy", [BatchPolicy(num_cores=1), BatchPolicy()], ids=["a core", "a device"])
def test_what_nobody_waits_for_any_more_is_neither_decoded_nor_forwarded(base: BaseModel, policy: BatchPolicy) -> None:
    gate, image = Gate(base.visual), digit_pngs(3)[0]
    gate.opened.set()
    held = _Held.of_images(_served(base, gate), [image] * 2)
    late = InferenceRequest.of_images(_served(base, gate), [image], deadline=time.monotonic() - 1)
    with open_workers(policy) as workers:
        workers.put(held)
        workers.put(late)
        assert held.entered.wait(30)
        held.answer.cancel()
        held.opened.set()
        wanted = submit(workers, _served(base, base.visual), patterns(base.image_size, 1))
        assert len(wanted.result(30).features) == 1
    assert gate.batch_sizes == []
    assert not late.answer.done()


@dataclass(eq=False)
class _Together(InferenceRequest):
    """A request whose images can only be decoded two at once."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))

    def decode_image(self, index: int) -> None:
        self.barrier.wait(10)
        super().decode_image(index)


def test_images_of_a_request_are_decoded_on_all_cores(base: BaseModel) -> None:
    with open_workers(TWO_CORES) as workers:
        for _ in range(3):
            _wait_until_free(workers)
            request = _Together.of_images(_served(base, base.visual), [digit_pngs(3)[0]] * 4)
            workers.put(request)
            assert len(request.answer.result(30).features) == 4


def test_closing_ends_cores_that_had_to_wait_for_a_forward_on_all_of_them(base: BaseModel) -> None:
    gate, image = Gate(base.visual), patterns(base.image_size, 1)
    with open_workers(TWO_CORES) as workers:
        futures = [submit(workers, _served(base, gate, image_seconds=60.0), image)]
        assert gate.entered.wait(30)
        futures.append(submit(workers, _served(base, base.visual, 2), image))
        closing = threading.Thread(target=workers.close)
        closing.start()
        time.sleep(0.05)  # the other core looks, and there is something left, for which it has to wait
        gate.opened.set()
        closing.join(30)
    assert [len(future.result(0).features) for future in futures] == [1, 1]


def test_a_forward_on_one_core_lets_the_other_decode_and_forward(base: BaseModel) -> None:
    gate = Gate(base.visual)
    with open_workers(TWO_CORES) as workers:
        first = submit(workers, _served(base, gate, image_seconds=0.0), patterns(base.image_size, 1))
        assert gate.entered.wait(30)
        request = InferenceRequest.of_images(_served(base, base.visual, 2), [digit_pngs(3)[0]] * 5)
        workers.put(request)
        assert len(request.answer.result(30).features) == 5
        assert not first.done()
        gate.opened.set()
        assert len(first.result(30).features) == 1
