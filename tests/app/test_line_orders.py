"""What holds whatever the order in which requests come and go and cores begin and end: no threads, no clock."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.serving.line import Decoding, Forwarding, Line, Pace
from app.serving.work import Work
from paint_core.models import BaseModel, load_base
from tests.app.lines import LONG, SHORT, encoded, ready, served


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


Image = tuple[int, int]
"""The number of a work, and the image's in it."""


@dataclass
class Yard:
    """Cores that take steps from a line when they are told to, and what has become of every image."""

    pace: Pace
    works: list[Work] = field(default_factory=list)
    under_way: list[Decoding | Forwarding] = field(default_factory=list)
    begun: set[Image] = field(default_factory=set)
    decoded: set[Image] = field(default_factory=set)
    forwarded: set[Image] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.line = Line(self.pace)

    @property
    def num_used_cores(self) -> int:
        return sum(step.num_cores if isinstance(step, Forwarding) else 1 for step in self.under_way)

    def put(self, work: Work, *, is_spare: bool) -> None:
        work.is_spare = is_spare
        self.works.append(work)
        self.line.put(work)
        if not work.images:
            self.decoded.update(self._images(work, range(len(work.pixels))))

    def step(self) -> bool:
        step = self.line.next_step(wait=False)
        if step is None:  # a core looks again at once if it has only dropped what nobody wants
            step = self.line.next_step(wait=False)
        if step is None:
            assert self.num_used_cores == self.pace.shared_cores or self._decodable() == set()
            return False
        self.under_way.append(step)
        assert self.num_used_cores <= self.pace.shared_cores
        if isinstance(step, Decoding):
            assert not step.work.is_dead()
            images = self._images(step.work, [step.index])
            assert self.begun.isdisjoint(images)
            self.begun.update(images)
        else:
            images = [image for work, indices in step.batch for image in self._images(work, indices)]
            assert 1 <= len(images) <= self.pace.max_images
            assert len({work.model for work, _ in step.batch}) == 1
            assert not any(work.is_dead() for work, _ in step.batch)
            assert self.decoded.issuperset(images)
            assert self.forwarded.isdisjoint(images)
            assert len(set(images)) == len(images)
            self.forwarded.update(images)
        return True

    def finish(self, step: Decoding | Forwarding, *, is_broken: bool = False) -> None:
        self.under_way.remove(step)
        if isinstance(step, Forwarding):
            return self.line.forwarded(step)
        if not is_broken:
            self.decoded.update(self._images(step.work, [step.index]))
        self.line.decoded(step, ValueError("no image") if is_broken else None)

    def run_dry(self) -> None:
        while self.step() or self.under_way:
            if self.under_way:
                self.finish(self.under_way[0])
        assert self._all_of(work for work in self.works if not work.is_dead()) <= self.forwarded

    def _decodable(self) -> set[Image]:
        waiting = (work for work in self.works if work.images and not work.broken and not work.is_dead())
        return self._all_of(waiting) - self.begun

    def _all_of(self, works: Iterable[Work]) -> set[Image]:
        return {image for work in works for image in self._images(work, range(len(work.pixels)))}

    def _images(self, work: Work, indices: Iterable[int]) -> list[Image]:
        return [(self.works.index(work), index) for index in indices]


EVENTS = ["put", "put", "step", "step", "step", "finish", "finish", "finish", "break", "cancel"]


@settings(max_examples=200)
@given(st.data(), st.integers(1, 5), st.sampled_from([0.0, 60.0]), st.integers(1, 4), st.booleans())
def test_every_image_that_somebody_wants_is_decoded_once_and_forwarded_once(
    base: BaseModel, data: st.DataObject, max_images: int, wait_seconds: float, num_cores: int, is_closed: bool
) -> None:
    yard = Yard(Pace(max_images, wait_seconds, shared_cores=num_cores))
    models = [served(base, SHORT), served(base, LONG)]
    for event in data.draw(st.lists(st.sampled_from(EVENTS), max_size=60)):
        if event == "put":
            make, model = data.draw(st.sampled_from([encoded, ready])), data.draw(st.sampled_from(models))
            yard.put(make(model, data.draw(st.integers(1, 6))), is_spare=data.draw(st.booleans()))
        elif event == "step":
            yard.step()
        elif event == "cancel" and yard.works:
            data.draw(st.sampled_from(yard.works)).answer.cancel()
        elif event in ("finish", "break") and yard.under_way:
            yard.finish(data.draw(st.sampled_from(yard.under_way)), is_broken=event == "break")
    if is_closed:
        yard.line.close()
    yard.run_dry()
    if not is_closed:
        yard.put(ready(models[1], 1), is_spare=False)
        assert yard.step()
        assert yard.num_used_cores == num_cores  # all have come back
        yard.run_dry()
        yard.line.close()
    assert yard.line.next_step() is None
