"""Images of many requests go through the model together, never two models in one batch."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F

from app.serving.line import Pace
from app.serving.model import MAX_BATCH_IMAGES, ServedModel
from app.serving.work import Work
from paint_core.evaluation import encode, probe_images
from paint_core.models import BaseModel, load_base
from tests.app.crewed import Crewed, open_crew
from tests.app.gate import Gate
from tests.builders import digit_pngs

ONE_AT_A_TIME = {"one core": Pace(max_images=64, shared_cores=1), "a device": Pace(max_images=64)}
TWO_CORES = Pace(max_images=64, shared_cores=2)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


@pytest.fixture(params=[*ONE_AT_A_TIME.values(), TWO_CORES], ids=[*ONE_AT_A_TIME, "two cores"])
def any_crew(request: pytest.FixtureRequest) -> Iterator[Crewed]:
    with open_crew(request.param) as crewed:
        yield crewed


@pytest.fixture(params=ONE_AT_A_TIME.values(), ids=list(ONE_AT_A_TIME))
def crew(request: pytest.FixtureRequest) -> Iterator[Crewed]:
    """One that does one forward at a time."""
    with open_crew(request.param) as crewed:
        yield crewed


def _served(
    base: BaseModel, visual: torch.nn.Module, version_id: int = 1, image_seconds: float | None = None
) -> ServedModel:
    model = ServedModel(version_id, base, visual, torch.device("cpu"), base.logit_scale, base.logit_bias)
    if image_seconds is not None:
        model.runner.image_seconds = image_seconds
    return model


def test_each_request_gets_its_own_images_features(base: BaseModel, any_crew: Crewed) -> None:
    images = probe_images(base.image_size, num_images=9)
    model = _served(base, base.visual)
    parts = [images[:2], images[2:3], images[3:9]]
    futures = [any_crew.submit(model, part) for part in parts]
    expected = F.normalize(encode(base.visual, images, base.preprocess), dim=-1)
    features = torch.cat([each.result(30).features for each in futures])
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


def test_what_waits_while_the_device_works_is_forwarded_together_up_to_the_limit(base: BaseModel, crew: Crewed) -> None:
    gate = Gate(base.visual)
    model = _served(base, gate, image_seconds=0.0)  # else a batch of a busy machine holds fewer
    images = probe_images(base.image_size, num_images=30)
    first = crew.submit(model, images[:1])
    assert gate.entered.wait(30)
    waiting = [crew.submit(model, images) for _ in range(3)]
    gate.opened.set()
    assert [len(each.result(30).features) for each in [first, *waiting]] == [1, 30, 30, 30]
    assert gate.batch_sizes == [1, 64, 26]
    assert max(gate.batch_sizes) <= MAX_BATCH_IMAGES


def test_a_batch_never_holds_two_models(base: BaseModel, crew: Crewed) -> None:
    old, new = Gate(base.visual), Gate(base.visual)
    new.opened.set()
    images = probe_images(base.image_size, num_images=2)
    models = {"old": _served(base, old), "new": _served(base, new, 2)}
    futures = [crew.submit(models["old"], images[:1])]
    assert old.entered.wait(30)
    futures += [crew.submit(models[name], images) for name in ("old", "new", "old", "new")]
    old.opened.set()
    for future in futures:
        future.result(30)
    assert old.batch_sizes == [1, 4]  # the later two images join, past those of the other model
    assert new.batch_sizes == [4]


def test_a_forward_that_fails_fails_its_requests_only(base: BaseModel, any_crew: Crewed) -> None:
    broken = _served(base, torch.nn.Linear(3, 3))
    images = probe_images(base.image_size, num_images=1)
    for _ in range(3):  # more often than there are threads
        with pytest.raises(RuntimeError):
            any_crew.submit(broken, images).result(30)
    assert len(any_crew.submit(_served(base, base.visual), images).result(30).features) == 1


def test_closing_finishes_what_is_queued(base: BaseModel, any_crew: Crewed) -> None:
    future = any_crew.submit(_served(base, base.visual), probe_images(base.image_size))
    any_crew.close()
    assert len(future.result(0).features) == 4
    with pytest.raises(RuntimeError):
        any_crew.submit(_served(base, base.visual), probe_images(base.image_size))


def test_two_cores_forward_two_batches_at_once(base: BaseModel) -> None:
    gates = [Gate(base.visual), Gate(base.visual)]
    images = probe_images(base.image_size, num_images=1)
    with open_crew(TWO_CORES) as crew:
        futures = [
            crew.submit(_served(base, gate, version_id, image_seconds=0.0), images)
            for version_id, gate in enumerate(gates)
        ]
        entered = [gate.entered.wait(30) for gate in gates]
        assert not any(future.done() for future in futures)
        for gate in gates:
            gate.opened.set()
        assert entered == [True, True]
        assert [len(future.result(30).features) for future in futures] == [1, 1]


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
    image, tower = probe_images(base.image_size, num_images=1), _Counting(base.visual)
    with open_crew(TWO_CORES) as crew:
        for image_seconds in (60.0, 0.0, 60.0, 0.0):
            while crew.line._num_free_cores < 2:  # an answer is out a little before its core is free
                time.sleep(0.001)
            crew.submit(_served(base, tower, image_seconds=image_seconds), image).result(30)
    assert tower.num_threads == [2, 1, 2, 1]


@dataclass(eq=False)
class _Held(Work):
    """A work whose images take until `opened` is set to be decoded."""

    entered: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def decode(self, index: int) -> None:
        self.entered.set()
        assert self.opened.wait(30)
        super().decode(index)


@pytest.mark.parametrize("pace", [Pace(wait_seconds=0.05, shared_cores=2), Pace(wait_seconds=0.05)])
def test_an_image_that_is_slow_to_decode_holds_up_others_only_so_long(base: BaseModel, pace: Pace) -> None:
    model, image = _served(base, base.visual), digit_pngs(3)[0]
    held = _Held.of_images(model, [image], None, None)
    assert isinstance(held, _Held)
    with open_crew(pace) as crew:
        others = [Work(model, probe_images(base.image_size, num_images=2).numpy())]
        if pace.shared_cores:  # then another core decodes, too
            others.append(Work.of_images(model, [image] * 3, None, None))
        crew.line.put(held)
        assert held.entered.wait(30)
        for other in others:
            crew.line.put(other)
        sizes = [len(other.answer.result(30).features) for other in others]
        assert not held.answer.done()
        held.opened.set()
        assert sizes == [2, 3][: len(others)]
        assert len(held.answer.result(30).features) == 1


@dataclass(eq=False)
class _Together(Work):
    """A work of which two images can only be decoded at once."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))

    def decode(self, index: int) -> None:
        self.barrier.wait(10)
        super().decode(index)


def test_images_of_a_request_are_decoded_on_all_cores(base: BaseModel) -> None:
    with open_crew(TWO_CORES) as crew:
        for _ in range(3):
            work = _Together.of_images(_served(base, base.visual), [digit_pngs(3)[0]] * 2, None, None)
            crew.line.put(work)
            assert len(work.answer.result(30).features) == 2


def test_closing_ends_cores_that_had_to_wait_for_a_forward_on_all_of_them(base: BaseModel) -> None:
    gate, image = Gate(base.visual), probe_images(base.image_size, num_images=1)
    with open_crew(TWO_CORES) as crew:
        futures = [crew.submit(_served(base, gate, image_seconds=60.0), image)]
        assert gate.entered.wait(30)
        futures.append(crew.submit(_served(base, base.visual, 2), image))
        crew.line.close()
        time.sleep(0.05)  # the other core looks, and there is something left, for which it has to wait
        gate.opened.set()
        crew.crew.join()
    assert [len(future.result(0).features) for future in futures] == [1, 1]


def test_a_forward_on_one_core_lets_the_other_decode_and_forward(base: BaseModel) -> None:
    gate = Gate(base.visual)
    with open_crew(TWO_CORES) as crew:
        first = crew.submit(_served(base, gate, image_seconds=0.0), probe_images(base.image_size, num_images=1))
        assert gate.entered.wait(30)
        work = Work.of_images(_served(base, base.visual, 2), [digit_pngs(3)[0]] * 5, None, None)
        crew.line.put(work)
        assert len(work.answer.result(30).features) == 5
        assert not first.done()
        gate.opened.set()
        assert len(first.result(30).features) == 1
