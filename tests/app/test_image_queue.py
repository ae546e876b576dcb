"""Whose images are in the next batch: models, callers and requests take turns, and large images leave room."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.runtime.round_robin import RoundRobin
from app.serving.batch_policy import BatchPolicy
from app.serving.batch_queue import BatchQueue
from app.serving.model_queues import ModelQueues
from app.serving.request import InferenceRequest
from paint_core.models import BaseModel, load_base
from tests.app.batch_queues import LONG, SHORT, Clock, begin, encoded, process, ready, served, sizes

POLICY = BatchPolicy(max_images=8, num_cores=1)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def filled(*requests: InferenceRequest, policy: BatchPolicy = POLICY) -> ModelQueues:
    queues = ModelQueues(policy)
    for request in requests:
        queues.add(request, range(request.num_images))
    return queues


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 5), st.integers(1, 7))
def test_every_piece_is_given_out_once_and_in_order(counts: list[int], turn: int, most: int) -> None:
    turns: RoundRobin[int] = RoundRobin(turn)
    for job, count in enumerate(counts):
        turns.add(job, range(count))
    given_out: dict[int, list[int]] = {job: [] for job in range(len(counts))}
    while (taken := turns.take(most)) is not None:
        assert 1 <= len(taken[1]) <= min(turn, most)
        given_out[taken[0]] += taken[1]
    assert list(given_out.values()) == [list(range(count)) for count in counts]
    assert len(turns) == 0


def test_a_job_of_many_pieces_lets_others_pass_after_its_turn() -> None:
    turns: RoundRobin[str] = RoundRobin(4)
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


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), min_size=1, max_size=8),
    st.integers(1, 5),
    st.integers(1, 7),
)
def test_no_caller_waits_for_more_than_one_turn_of_each_other(
    jobs: list[tuple[str, int]], turn: int, most: int
) -> None:
    turns: RoundRobin[int] = RoundRobin(turn, lambda job: jobs[job][0])
    for job, (_, count) in enumerate(jobs):
        turns.add(job, range(count))
    given_out: dict[int, list[int]] = {job: [] for job in range(len(jobs))}
    since = dict.fromkeys((caller for caller, _ in jobs), 0)  # pieces of others since a caller's last one
    while (taken := turns.take(most)) is not None:
        job, pieces = taken
        given_out[job] += pieces
        for caller in since:
            is_held_up = caller != jobs[job][0] and turns.num_waiting(caller)
            since[caller] = since[caller] + len(pieces) if is_held_up else 0
            assert since[caller] <= turn * (len(since) - 1)
    assert list(given_out.values()) == [list(range(count)) for _, count in jobs]
    assert len(turns) == 0


def test_what_costs_more_than_a_turn_has_a_turn_of_its_own() -> None:
    turns: RoundRobin[str] = RoundRobin(4, lambda job: job[0], lambda job, _: 9 if job.endswith("dear") else 1)
    for job, count in (("a dear", 3), ("b cheap", 6), ("c cheap", 1)):
        turns.add(job, range(count))
    taken = [turns.take(8) for _ in range(6)]
    assert [each and (each[0], len(each[1])) for each in taken] == [
        ("a dear", 1),
        ("b cheap", 4),
        ("c cheap", 1),
        ("a dear", 1),
        ("b cheap", 2),
        ("a dear", 1),
    ]


def test_a_huge_request_delays_a_single_image_by_no_more_than_a_batch(base: BaseModel) -> None:
    model = served(base)
    queues = filled(ready(model, 64))
    assert sizes(queues.take(8)) == [8]
    single = ready(model, 1)
    queues.add(single, [0])
    assert (single, [0]) in queues.take(8)


def test_a_huge_request_of_a_slow_model_lets_others_pass_after_half_a_batch(base: BaseModel) -> None:
    policy, model = BatchPolicy(max_images=32, num_cores=1), served(base, LONG)
    queues = filled(ready(model, 64), ready(model, 1), policy=policy)
    assert sorted(sizes(queues.take(policy.max_batch(model)))) == [1, 15]


def test_a_caller_with_many_requests_delays_another_by_no_more_than_half_a_batch(base: BaseModel) -> None:
    model = served(base)
    single = ready(model, 1, caller="b")
    queues = filled(*(ready(model, 1, caller="a") for _ in range(30)), single)
    assert [request for request, _ in queues.take(8)].index(single) == 4


def test_models_take_turns_so_none_waits_for_more_than_a_batch_of_another(base: BaseModel) -> None:
    models = [served(base) for _ in range(3)]
    queues = filled(*(ready(model, 5) for _ in range(3) for model in models[:2]))
    batches = [queues.take(8)]
    queues.add(ready(models[2], 1), [0])
    batches += [queues.take(8) for _ in range(4)]
    assert [models.index(batch[0][0].model) for batch in batches] == [0, 1, 0, 2, 1]
    assert all(len({request.model for request, _ in batch}) == 1 for batch in batches)
    assert [sum(sizes(batch)) for batch in batches] == [8, 8, 7, 1, 7]


def test_later_images_of_a_model_join_its_batch_past_those_of_another(base: BaseModel) -> None:
    one, other = served(base), served(base)
    requests = [ready(model, 2) for model in (one, other, one, other, one)]
    assert [request for request, _ in filled(*requests).take(8)] == requests[::2]


def test_images_of_low_priority_are_taken_when_there_are_no_others(base: BaseModel) -> None:
    model = served(base)
    low, normal = ready(model, 1, low_priority=True), ready(model, 9)
    queues = filled(low, normal)
    assert [[request for request, _ in queues.take(8)] for _ in range(3)] == [[normal], [normal], [low]]


def test_images_of_abandoned_requests_are_not_taken(base: BaseModel) -> None:
    model = served(base)
    cancelled, late, wanted = encoded(model, 2), encoded(model, 2, deadline=time.monotonic() - 1), encoded(model, 1)
    cancelled.answer.cancel()
    queues = filled(cancelled, late, wanted)
    assert [request for request, _ in queues.take(8)] == [wanted]
    assert len(queues) == 0


def test_a_batch_holds_fewer_images_of_a_model_the_slower_it_is(base: BaseModel) -> None:
    policy = BatchPolicy(max_images=32, num_cores=1)
    for image_seconds, size in ((SHORT, 32), (0.04, 20), (LONG, 16), (0.2, 4), (60.0, 1), (math.inf, 32)):
        assert policy.max_batch(served(base, image_seconds)) == size
    assert BatchPolicy(max_images=32, quick_images=16, num_cores=1).max_batch(served(base, SHORT)) == 16
    assert BatchPolicy(max_images=32).max_batch(served(base, LONG)) == 32  # a GPU forwards


def test_dear_images_make_smaller_batches_and_take_turns_one_by_one(base: BaseModel) -> None:
    model = served(base)
    dear = encoded(model, 8, caller="a", costs=[3.9] * 8)
    cheap = encoded(model, 8, caller="b", costs=[0.01] * 8)
    queue = BatchQueue(BatchPolicy(max_images=16, num_cores=1))
    queue.put(dear)
    queue.put(cheap)
    assert [process(queue) for _ in range(3)] == [
        [(dear, [0])],
        [(cheap, [*range(8)]), (dear, [1])],
        [(dear, [2])],
    ]


@pytest.mark.parametrize("max_large", [1, 2])
def test_large_images_leave_workers_to_small_ones_that_come(base: BaseModel, clock: Clock, max_large: int) -> None:
    queue, model = BatchQueue(BatchPolicy(max_images=8, num_cores=2 * max_large, max_large=max_large)), served(base)
    small, huge = encoded(model, 1), encoded(model, 9, costs=[25.0] * 9)
    queue.put(small)
    assert process(queue) == [(small, [0])]
    queue.put(huge)
    decoding = [begin(queue) for _ in range(max_large)]
    assert [task.batch for task in decoding] == [[(huge, [index])] for index in range(max_large)]
    assert queue.next_task(wait=False) is None  # since small ones came a moment ago
    clock.now += 60
    assert begin(queue).batch == [(huge, [max_large])]
    for task in decoding:
        queue.end(task)
    assert begin(queue).is_large


def test_small_and_large_images_take_turns(base: BaseModel) -> None:
    queue, model = BatchQueue(BatchPolicy(max_images=1, num_cores=1)), served(base)
    queue.put(encoded(model, 3, costs=[25.0] * 3))
    queue.put(encoded(model, 3))
    order = []
    while (task := queue.next_task(wait=False)) is not None:
        order.append(task.is_large)
        queue.end(task)
    assert order == [True, False, True, False, True, False]


def test_a_request_of_small_and_large_images_is_given_out_whole_and_dropped_whole(base: BaseModel) -> None:
    for is_dropped in (False, True):
        queue = BatchQueue(POLICY)
        mixed = encoded(served(base), 4, costs=[0.1, 25.0, 0.1, 25.0])
        queue.put(mixed)
        if is_dropped:
            mixed.answer.cancel()
            assert queue.next_task(wait=False) is None
        else:
            assert [process(queue) for _ in range(3)] == [[(mixed, [1])], [(mixed, [0, 2])], [(mixed, [3])]]
        assert not queue.is_busy()
