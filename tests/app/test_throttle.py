"""Long work takes its share of a core while requests need it, and all of it when they do not."""

import pytest

from app.http.admission import Admission
from app.models.throttle import Throttle
from app.serving.batch_policy import BatchPolicy
from app.serving.engine import Engine


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
    monkeypatch.setattr("app.models.throttle.time", clock)
    return clock


def test_it_rests_as_its_share_demands(clock: Clock) -> None:
    yield_cpu = Throttle(lambda: True, share=0.25)
    for worked in (0.001, 0.001, 0.0005, 0.004):  # too little at first, and then at once
        clock.worked += worked
        yield_cpu()
    assert clock.slept == pytest.approx([0.006, 0.0135])


def test_it_does_not_rest_when_nobody_needs_the_cores(clock: Clock) -> None:
    pressed = iter([False, True])
    yield_cpu = Throttle(lambda: next(pressed), share=0.5)
    for worked in (3.0, 0.01):
        clock.worked += worked
        yield_cpu()
    assert clock.slept == pytest.approx([0.01])  # what was worked before does not count


def test_it_rests_only_so_long_in_all(clock: Clock) -> None:
    yield_cpu = Throttle(lambda: True, share=0.1, most_rested_seconds=1.0)
    for _ in range(30):
        clock.worked += 0.01
        yield_cpu()
    assert sum(clock.slept) == pytest.approx(1.0)


@pytest.mark.parametrize("shares", [True, False])
def test_an_engine_is_pressed_while_images_need_the_cores(shares: bool) -> None:
    policy = BatchPolicy(num_cores=2 if shares else 0)
    engine = Engine(decode_threads=2, max_queue_images=8, policy=policy)
    try:
        assert not engine.is_busy
        with engine.admission.hold(1):
            assert engine.is_busy == shares
        assert engine.is_busy == shares  # the next request may come while long work goes on
    finally:
        engine.close()


def test_an_engine_stays_busy_between_two_requests_and_no_longer() -> None:
    now = 100.0
    admission = Admission(8, clock=lambda: now)
    assert not admission.is_busy
    with admission.hold(1):
        now += 60
        assert admission.is_busy
    now += 0.15
    assert admission.is_busy
    now += 0.1
    assert not admission.is_busy
