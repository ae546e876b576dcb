"""When a batch leaves, and whose images are in it: no threads here, only the order of events."""

import math
import time

import pytest
import torch

from app.serving.engine import choose_pace
from app.serving.line import Forwarding, Line, Pace
from paint_core.models import BaseModel, load_base
from tests.app.lines import LONG, SHORT, Clock, decode, decoding, encoded, forward, forwarding, ready, served, sizes

CORE = Pace(max_images=8, wait_seconds=60, shared_cores=1)
CORES = Pace(max_images=8, wait_seconds=60, shared_cores=2)
DEVICE = Pace(max_images=8)

each_kind = pytest.mark.parametrize("pace", [CORE, DEVICE], ids=["a core", "a device"])


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@each_kind
def test_a_huge_request_delays_a_single_image_by_no_more_than_a_batch(base: BaseModel, pace: Pace) -> None:
    line, model = Line(pace), served(base)
    huge, single = ready(model, 64), ready(model, 1)
    line.put(huge)
    assert sizes(forward(line)) == [8]
    line.put(single)
    batch = forward(line)
    assert batch is not None
    assert sizes(batch) == [7, 1] or sizes(batch) == [4, 1, 3]
    assert single in [work for work, _ in batch]


@each_kind
def test_models_take_turns_so_none_waits_for_more_than_a_batch_of_another(base: BaseModel, pace: Pace) -> None:
    line, models = Line(pace), [served(base) for _ in range(3)]
    for _ in range(3):
        for model in models[:2]:
            line.put(ready(model, 5))
    first = forward(line)
    line.put(ready(models[2], 1))
    batches = [first, *(forward(line) for _ in range(4))]
    assert [models.index(batch[0][0].model) for batch in batches if batch] == [0, 1, 0, 2, 1]
    assert all(len({work.model for work, _ in batch}) == 1 for batch in batches if batch)
    assert [sum(sizes(batch)) for batch in batches] == [8, 8, 7, 1, 7]


@each_kind
def test_later_images_of_a_model_join_its_batch_past_those_of_another(base: BaseModel, pace: Pace) -> None:
    line, one, other = Line(pace), served(base), served(base)
    works = [ready(model, 2) for model in (one, other, one, other, one)]
    for work in works:
        line.put(work)
    batch = forward(line)
    assert batch is not None
    assert [work for work, _ in batch] == works[::2]


@pytest.mark.parametrize("pace", [CORES, DEVICE])
def test_spare_work_leaves_only_when_nothing_else_is_there_or_being_decoded(base: BaseModel, pace: Pace) -> None:
    line, model = Line(pace), served(base)
    spare = ready(model, 1)
    spare.is_spare = True
    line.put(spare)
    line.put(encoded(model, 1))
    image = decoding(line)
    assert forward(line) is None
    line.decoded(image)
    batches = [forward(line) for _ in range(2)]
    assert [batch and batch[0][0].is_spare for batch in batches] == [False, True]


def test_on_a_cpu_a_batch_leaves_when_nothing_is_left_to_decode(base: BaseModel) -> None:
    line, model = Line(CORE), served(base)
    line.put(encoded(model, 2))
    line.put(encoded(model, 1))
    decode(line, 3)  # each of these steps might have been a batch
    assert sizes(forward(line)) == [2, 1]


def test_on_one_core_a_full_batch_leaves_before_the_next_image_is_decoded(base: BaseModel) -> None:
    line, model = Line(CORE), served(base)
    for _ in range(12):
        line.put(encoded(model, 1))
    decode(line, 8)
    step = forwarding(line)
    assert sizes(step.batch) == [1] * 8
    assert line.next_step(wait=False) is None  # the core is taken
    line.forwarded(step)
    decode(line, 4)
    assert sizes(forward(line)) == [1] * 4


def test_on_one_core_images_wait_only_so_long_for_others(base: BaseModel, clock: Clock) -> None:
    line, model = Line(Pace(max_images=8, wait_seconds=0.05, shared_cores=1)), served(base)
    for num_images in (1, 5):
        line.put(encoded(model, num_images))
    decode(line, 1)
    clock.now += 0.04
    decode(line, 1)
    clock.now += 0.02
    assert sizes(forward(line)) == [1, 1]
    decode(line, 4)
    assert sizes(forward(line)) == [4]


def test_a_full_batch_is_not_held_up_by_what_another_core_decodes(base: BaseModel) -> None:
    line, model = Line(CORES), served(base)
    line.put(encoded(model, 1))
    slow = decoding(line)
    for _ in range(9):
        line.put(encoded(model, 1))
    decode(line, 8)
    step = forwarding(line)
    assert (sizes(step.batch), step.num_cores) == ([1] * 8, 1)
    line.decoded(slow)
    decode(line, 1)  # meanwhile, on the core that was slow
    assert sizes(forward(line)) == [1, 1]


def test_what_is_ready_waits_only_so_long_for_what_another_core_decodes(base: BaseModel, clock: Clock) -> None:
    line, model = Line(Pace(max_images=8, wait_seconds=0.05, shared_cores=2)), served(base)
    line.put(encoded(model, 1))
    slow = decoding(line)
    line.put(ready(model, 3))
    clock.now += 0.04
    assert forward(line) is None
    clock.now += 0.02
    step = forwarding(line)
    assert (sizes(step.batch), step.num_cores) == ([3], 1)
    line.decoded(slow)
    assert sizes(forward(line)) == [1]


def test_a_core_wakes_by_itself_when_images_have_waited_long_enough(base: BaseModel) -> None:
    line, model = Line(Pace(max_images=8, wait_seconds=0.05, shared_cores=2)), served(base)
    line.put(encoded(model, 1))
    decoding(line)
    start = time.monotonic()
    line.put(ready(model, 3))
    step = line.next_step()
    assert isinstance(step, Forwarding)
    assert 0.05 <= time.monotonic() - start < 5


def test_after_a_batch_of_several_requests_a_cpu_waits_a_moment_for_the_next(base: BaseModel, clock: Clock) -> None:
    line, model = Line(Pace(linger_seconds=0.01, shared_cores=1)), served(base)
    for _ in range(2):
        line.put(ready(model, 1))
    assert sizes(forward(line)) == [1, 1]
    line.put(ready(model, 1))
    assert forward(line) is None
    clock.now += 0.02
    assert sizes(forward(line)) == [1]
    line.put(ready(model, 1))
    assert sizes(forward(line)) == [1]  # as the last one was alone


def test_what_is_left_is_shared_out_among_the_free_cores(base: BaseModel) -> None:
    for image_seconds in (SHORT, LONG):
        line, model = Line(Pace(max_images=32, shared_cores=2)), served(base, image_seconds)
        line.put(ready(model, 8))
        halves = [forwarding(line) for _ in range(2)]
        assert [(sizes(half.batch), half.num_cores) for half in halves] == [([4], 1), ([4], 1)]
        assert sorted(index for half in halves for _, indices in half.batch for index in indices) == list(range(8))
        assert line.next_step(wait=False) is None


def test_what_is_left_is_shared_out_only_among_cores_that_are_free(base: BaseModel) -> None:
    line, model = Line(Pace(max_images=32, shared_cores=3)), served(base)
    line.put(ready(model, 2))
    first = forwarding(line)
    line.put(ready(model, 9))
    rest = [forwarding(line) for _ in range(2)]
    assert [(sizes(step.batch), step.num_cores) for step in [first, *rest]] == [([2], 1), ([5], 1), ([4], 1)]


def test_a_short_forward_takes_one_core_and_leaves_the_others_to_whoever_comes(base: BaseModel) -> None:
    line, model = Line(CORES), served(base, SHORT)
    line.put(ready(model, 1))
    assert forwarding(line).num_cores == 1
    line.put(encoded(model, 1))
    decode(line, 1)


def test_a_long_forward_of_few_images_takes_all_free_cores_until_it_is_done(base: BaseModel) -> None:
    line, model = Line(Pace(max_images=8, shared_cores=4)), served(base, LONG)
    line.put(ready(model, 3))
    step = forwarding(line)
    assert (sizes(step.batch), step.num_cores) == ([3], 4)
    line.put(encoded(model, 1))
    line.put(ready(model, 1))
    assert line.next_step(wait=False) is None
    line.forwarded(step)
    assert sizes(forwarding(line).batch) == [1]  # it has waited long enough: this pace waits for nothing
    image = decoding(line)
    assert line.next_step(wait=False) is None
    line.decoded(image)
    assert forwarding(line).num_cores == 3


def test_on_a_gpu_a_batch_leaves_while_others_are_decoded(base: BaseModel) -> None:
    line, model = Line(choose_pace(torch.device("cuda"), num_cores=4)), served(base)
    line.put(encoded(model, 3))
    decode(line, 1)
    assert sizes(forward(line)) == [1]
    decode(line, 2)
    assert sizes(forward(line)) == [2]


@each_kind
def test_what_nobody_wants_any_more_is_neither_decoded_nor_forwarded(base: BaseModel, pace: Pace) -> None:
    line, model = Line(pace), served(base)
    works = [encoded(model, 2), encoded(model, 2, time.monotonic() - 1), encoded(model, 1)]
    for work in works:
        line.put(work)
    image = decoding(line)
    works[0].answer.cancel()
    line.decoded(image)
    decode(line, 1)
    assert works[2].num_decoded == 1
    batch = forward(line)
    assert [work for work, _ in batch or []] == [works[2]]


@pytest.mark.parametrize("pace", [CORES, DEVICE])
def test_the_first_broken_image_is_named_whichever_thread_is_faster(base: BaseModel, pace: Pace) -> None:
    line, model = Line(pace), served(base)
    work = encoded(model, 4)
    line.put(work)
    first, second = decoding(line), decoding(line)
    line.decoded(second, ValueError("second"))
    assert not work.answer.done()
    line.decoded(first, ValueError("first"))
    assert str(work.answer.exception(0)) == "first"
    assert forward(line) is None


def test_once_an_image_is_broken_no_more_of_its_request_is_decoded_or_forwarded(base: BaseModel) -> None:
    line, model = Line(Pace(max_images=8, shared_cores=3)), served(base)
    work = encoded(model, 5)
    line.put(work)
    first, second, third = (decoding(line) for _ in range(3))
    line.decoded(second, ValueError("second"))
    assert line.next_step(wait=False) is None
    line.decoded(third)
    assert line.next_step(wait=False) is None
    assert not work.answer.done()
    line.decoded(first)
    assert str(work.answer.exception(0)) == "second"
    assert line.next_step(wait=False) is None


def test_a_closed_line_gives_out_what_is_ready_and_cancels_what_is_not(base: BaseModel) -> None:
    line, model = Line(DEVICE), served(base)
    waiting, done = encoded(model, 1), ready(model, 1)
    line.put(done)
    line.put(waiting)
    line.close()
    assert waiting.answer.cancelled()
    assert line.next_image() is None
    assert sizes(line.next_batch()) == [1]
    assert line.next_batch() is None
    with pytest.raises(RuntimeError):
        line.put(ready(model, 1))


def test_cores_of_a_closed_line_finish_what_is_ready_or_being_decoded(base: BaseModel) -> None:
    line, model = Line(CORES), served(base)
    begun, waiting = encoded(model, 1), encoded(model, 1)
    line.put(begun)
    image = decoding(line)
    line.put(ready(model, 1))
    line.put(waiting)
    line.close()
    assert (begun.answer.cancelled(), waiting.answer.cancelled()) == (False, True)
    assert sizes(forward(line)) == [1]
    line.decoded(image)
    assert sizes(forward(line)) == [1]
    assert line.next_step() is None
    with pytest.raises(RuntimeError):
        line.put(ready(model, 1))


def test_a_quick_model_forwards_while_more_is_decoded_and_a_slow_one_waits_for_all(base: BaseModel) -> None:
    pace = Pace(max_images=8, enough_images=4, wait_seconds=60, shared_cores=2)
    for image_seconds, size in ((SHORT, 4), (LONG, 6)):
        line, model = Line(pace), served(base, image_seconds)
        for _ in range(6):
            line.put(encoded(model, 1))
        decode(line, size)
        batch = forward(line)
        assert batch is not None
        assert len(batch) in (4, 3)  # the slow one's six are shared out among two cores
    model = served(base, SHORT)
    assert Pace(max_images=2, enough_images=4).full(model) == 2
    assert Pace(max_images=8).full(model) == 8


def test_a_batch_holds_fewer_images_of_a_model_the_slower_it_is(base: BaseModel) -> None:
    for image_seconds, size in ((SHORT, 32), (0.04, 20), (LONG, 16), (0.2, 4), (60.0, 1), (math.inf, 32)):
        line, model = Line(Pace(max_images=32, wait_seconds=60, shared_cores=1)), served(base, image_seconds)
        for _ in range(40):
            line.put(ready(model, 1))
        assert len(forwarding(line).batch) == size
    assert Pace(max_images=32).most(served(base, LONG)) == 32  # a device has its own


def test_a_huge_request_of_a_slow_model_lets_others_pass_after_half_a_batch(base: BaseModel) -> None:
    line, model = Line(Pace(max_images=32, wait_seconds=60, shared_cores=1)), served(base, LONG)
    line.put(ready(model, 64))
    line.put(ready(model, 1))
    assert sorted(sizes(forward(line))) == [1, 15]


def test_while_cores_share_a_forward_no_other_is_shared(base: BaseModel) -> None:
    line, model = Line(Pace(max_images=8, shared_cores=4)), served(base, LONG)
    line.put(encoded(model, 2))
    late = [decoding(line) for _ in range(2)]
    line._num_decoding = 0  # as if they hung: two cores are left
    line.put(ready(model, 1))
    shared = forwarding(line)
    assert shared.num_cores == 2
    line._num_free_cores += len(late)
    line.put(ready(model, 1))
    assert forwarding(line).num_cores == 1
    line.forwarded(shared)
    line.put(ready(model, 1))
    assert forwarding(line).num_cores == 3
