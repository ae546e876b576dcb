"""When a batch leaves, and whose images are in it: no threads here, only the order of events."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.serving.engine import choose_pace
from app.serving.line import Line, Pace
from app.serving.model import ServedModel
from app.serving.turns import Turns
from app.serving.work import Work
from paint_core.models import BaseModel, load_base
from paint_core.probe import probe_images

CPU = Pace(max_images=8, wait_seconds=60, shares_cores=True)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


def served(base: BaseModel) -> ServedModel:
    return ServedModel(1, base, base.visual, torch.device("cpu"), base.logit_scale, base.logit_bias)


def encoded(model: ServedModel, num_images: int, deadline: float | None = None) -> Work:
    return Work.of_images(model, [b"an image"] * num_images, None, deadline)


def ready(model: ServedModel, num_images: int) -> Work:
    return Work(model, probe_images(model.base.image_size, num_images))


def decode(line: Line, num_images: int) -> None:
    for _ in range(num_images):
        taken = line.next_image()
        assert taken is not None
        line.decoded(*taken)


def sizes(batch: list[tuple[Work, list[int]]] | None) -> list[int]:
    return [len(indices) for _, indices in batch or []]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 5), st.integers(1, 7))
def test_every_piece_is_given_out_once_and_in_order(counts: list[int], turn: int, most: int) -> None:
    turns: Turns[int] = Turns(turn)
    for job, count in enumerate(counts):
        turns.add(job, range(count))
    given_out: dict[int, list[int]] = {job: [] for job in range(len(counts))}
    while (taken := turns.take(most)) is not None:
        assert 1 <= len(taken[1]) <= min(turn, most)
        given_out[taken[0]] += taken[1]
    assert list(given_out.values()) == [list(range(count)) for count in counts]
    assert len(turns) == 0


def test_a_job_of_many_pieces_lets_others_pass_after_its_turn() -> None:
    turns: Turns[str] = Turns(4)
    turns.add("huge", range(10))
    turns.add("small", range(1))
    turns.add("dropped", range(3))
    turns.drop("dropped")
    taken = [turns.take(3) for _ in range(6)]
    assert [each and (each[0], len(each[1])) for each in taken] == [
        ("huge", 3),
        ("huge", 1),
        ("small", 1),
        ("huge", 3),
        ("huge", 1),
        ("huge", 2),
    ]


def test_a_huge_request_delays_a_single_image_by_no_more_than_a_batch(base: BaseModel) -> None:
    line, model = Line(Pace(max_images=8)), served(base)
    huge, single = ready(model, 64), ready(model, 1)
    line.put(huge)
    assert sizes(line.next_batch()) == [8]
    line.put(single)
    batch = line.next_batch()
    assert batch is not None
    assert sizes(batch) == [7, 1] or sizes(batch) == [4, 1, 3]
    assert single in [work for work, _ in batch]


def test_models_take_turns_so_none_waits_for_more_than_a_batch_of_another(base: BaseModel) -> None:
    line, models = Line(Pace(max_images=8)), [served(base) for _ in range(3)]
    for _ in range(3):
        for model in models[:2]:
            line.put(ready(model, 5))
    first = line.next_batch()
    line.put(ready(models[2], 1))
    batches = [first, *(line.next_batch() for _ in range(4))]
    assert [models.index(batch[0][0].model) for batch in batches if batch] == [0, 1, 0, 2, 1]
    assert all(len({work.model for work, _ in batch}) == 1 for batch in batches if batch)
    assert [sum(sizes(batch)) for batch in batches] == [8, 8, 7, 1, 7]


def test_later_images_of_a_model_join_its_batch_past_those_of_another(base: BaseModel) -> None:
    line, one, other = Line(Pace(max_images=8)), served(base), served(base)
    works = [ready(model, 2) for model in (one, other, one, other, one)]
    for work in works:
        line.put(work)
    batch = line.next_batch()
    assert batch is not None
    assert [work for work, _ in batch] == works[::2]


def test_spare_work_leaves_only_when_nothing_else_is_there_or_being_decoded(base: BaseModel) -> None:
    line, model = Line(Pace()), served(base)
    spare = ready(model, 1)
    spare.is_spare = True
    line.put(spare)
    line.put(encoded(model, 1))
    assert line.next_batch(wait=False) is None
    decode(line, 1)
    batches = [line.next_batch(wait=False) for _ in range(2)]
    assert [batch and batch[0][0].is_spare for batch in batches] == [False, True]


def test_on_a_cpu_a_batch_leaves_when_nothing_is_left_to_decode(base: BaseModel) -> None:
    line, model = Line(CPU), served(base)
    line.put(encoded(model, 2))
    line.put(encoded(model, 1))
    decode(line, 2)
    assert line.next_batch(wait=False) is None
    decode(line, 1)
    assert sizes(line.next_batch(wait=False)) == [2, 1]


def test_on_a_cpu_a_full_batch_leaves_and_decoding_waits_for_it(base: BaseModel) -> None:
    line, model = Line(CPU), served(base)
    for _ in range(12):
        line.put(encoded(model, 1))
    decode(line, 8)
    assert sizes(line.next_batch(wait=False)) == [1] * 8
    assert not line._may_decode()
    line.forwarded()
    decode(line, 4)
    assert sizes(line.next_batch(wait=False)) == [1] * 4


def test_on_a_cpu_images_wait_only_so_long_for_others(base: BaseModel) -> None:
    line, model = Line(Pace(max_images=8, wait_seconds=0.05, shares_cores=True)), served(base)
    line.put(encoded(model, 1))
    decode(line, 1)
    line.put(encoded(model, 5))
    assert line.next_batch(wait=False) is None
    start = time.monotonic()
    assert sizes(line.next_batch()) == [1]
    assert time.monotonic() - start < 5


def test_on_a_gpu_a_batch_leaves_while_others_are_decoded(base: BaseModel) -> None:
    line, model = Line(choose_pace(torch.device("cuda"))), served(base)
    line.put(encoded(model, 3))
    decode(line, 1)
    assert sizes(line.next_batch(wait=False)) == [1]
    decode(line, 2)
    assert sizes(line.next_batch(wait=False)) == [2]


def test_what_nobody_wants_any_more_is_neither_decoded_nor_forwarded(base: BaseModel) -> None:
    line, model = Line(CPU), served(base)
    works = [encoded(model, 2), encoded(model, 2, time.monotonic() - 1), encoded(model, 1)]
    for work in works:
        line.put(work)
    taken = line.next_image()
    works[0].answer.cancel()
    assert taken is not None
    line.decoded(*taken)
    decode(line, 1)
    assert works[2].num_decoded == 1
    batch = line.next_batch(wait=False)
    assert [work for work, _ in batch or []] == [works[2]]


def test_the_first_broken_image_is_named_whichever_thread_is_faster(base: BaseModel) -> None:
    line, model = Line(CPU), served(base)
    work = encoded(model, 4)
    line.put(work)
    first, second = line.next_image(), line.next_image()
    assert first is not None
    assert second is not None
    line.decoded(*second, ValueError("second"))
    assert not work.answer.done()
    line.decoded(*first, ValueError("first"))
    assert str(work.answer.exception(0)) == "first"
    assert line.next_batch(wait=False) is None


def test_a_closed_line_gives_out_what_is_ready_and_cancels_what_is_not(base: BaseModel) -> None:
    line, model = Line(CPU), served(base)
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
