"""Long work takes its share of a core while requests need it, and all of it when they do not."""

import pytest
import torch

from app.serving.breather import Breather
from app.serving.engine import Engine, choose_pace


class Clock:
    """What the breather takes for `time`: it sleeps at once, and works as long as it is told."""

    def __init__(self) -> None:
        self.worked = 5.0
        self.slept: list[float] = []

    def thread_time(self) -> float:
        return self.worked

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("app.serving.breather.time", clock)
    return clock


def test_it_rests_as_its_share_demands(clock: Clock) -> None:
    breathe = Breather(lambda: True, share=0.25)
    for worked in (0.001, 0.001, 0.0005, 0.004):  # too little at first, and then at once
        clock.worked += worked
        breathe()
    assert clock.slept == pytest.approx([0.006, 0.0135])


def test_it_does_not_rest_when_nobody_needs_the_cores(clock: Clock) -> None:
    pressed = iter([False, True])
    breathe = Breather(lambda: next(pressed), share=0.5)
    for worked in (3.0, 0.01):
        clock.worked += worked
        breathe()
    assert clock.slept == pytest.approx([0.01])  # what was worked before does not count


def test_it_rests_only_so_long_in_all(clock: Clock) -> None:
    breathe = Breather(lambda: True, share=0.1, most_rested_seconds=1.0)
    for _ in range(30):
        clock.worked += 0.01
        breathe()
    assert sum(clock.slept) == pytest.approx(1.0)


@pytest.mark.parametrize("shares", [True, False])
def test_an_engine_is_pressed_while_images_need_the_cores(shares: bool) -> None:
    pace = choose_pace(torch.device("cpu"), num_cores=2 if shares else 0)
    engine = Engine(decode_threads=2, max_queue_images=8, pace=pace)
    try:
        assert not engine.is_pressed
        with engine.admission.hold(1):
            assert engine.is_pressed == shares
        assert not engine.is_pressed
    finally:
        engine.close()
