from worker.messages import Progress
from worker.progress import ProgressMeter


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_progress_grows_with_work_and_the_eta_follows_the_measured_speed() -> None:
    clock, sent = Clock(), list[Progress]()
    meter = ProgressMeter(sent.append, total=100, clock=clock)
    meter.enter("finetune")
    for _ in range(10):
        clock.seconds += 1
        meter.advance(5)
    assert sent[-1] == Progress("finetune", 0.5, 10.0)
    assert [message.progress for message in sent] == sorted(message.progress for message in sent)


def test_work_of_an_earlier_attempt_counts_as_done_but_not_as_speed() -> None:
    clock, sent = Clock(), list[Progress]()
    meter = ProgressMeter(sent.append, total=100, clock=clock)
    meter.skip(80)
    clock.seconds = 10
    meter.advance(10)
    assert sent[-1].progress == 0.9
    assert sent[-1].eta_seconds == 10.0


def test_no_eta_is_given_before_the_speed_is_known() -> None:
    sent = list[Progress]()
    ProgressMeter(sent.append, total=100, clock=Clock()).enter("prepare")
    assert sent == [Progress("prepare", 0.0, None)]


def test_fast_work_is_reported_at_most_five_times_a_second() -> None:
    clock, sent = Clock(), list[Progress]()
    meter = ProgressMeter(sent.append, total=1000, clock=clock)
    for _ in range(1000):
        clock.seconds += 0.001
        meter.advance(1)
    assert len(sent) <= 6
