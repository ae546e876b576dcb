"""Callers take turns, by what their images cost, and large images leave room: only the order of events, no threads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving.line import Line, Pace
from app.serving.turns import Turns
from app.serving.work import Work
from paint_core.models import BaseModel, load_base
from tests.app.lines import Clock, decode, decoding, encoded, forward, ready, served, sizes

CORE = Pace(max_images=8, wait_seconds=60, shared_cores=1)
DEVICE = Pace(max_images=8)

each_kind = pytest.mark.parametrize("pace", [CORE, DEVICE], ids=["a core", "a device"])


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


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


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), min_size=1, max_size=8),
    st.integers(1, 5),
    st.integers(1, 7),
)
def test_no_caller_waits_for_more_than_one_turn_of_each_other(
    jobs: list[tuple[str, int]], turn: int, most: int
) -> None:
    turns: Turns[int] = Turns(turn, lambda job: jobs[job][0])
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
    turns: Turns[str] = Turns(4, lambda job: job[0], lambda job, _: 9 if job.endswith("dear") else 1)
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


@each_kind
def test_a_caller_with_many_requests_delays_another_by_no_more_than_a_batch(base: BaseModel, pace: Pace) -> None:
    line, model = Line(pace), served(base)
    for _ in range(30):
        line.put(ready(model, 1, "a"))
    single = ready(model, 1, "b")
    line.put(single)
    batch = forward(line)
    assert batch is not None
    assert single in [work for work, _ in batch]


def test_a_caller_with_many_requests_delays_decoding_by_no_more_than_half_a_batch(base: BaseModel) -> None:
    line, model = Line(CORE), served(base)
    for _ in range(30):
        line.put(encoded(model, 1, caller="a"))
    single = encoded(model, 1, caller="b")
    line.put(single)
    images = [decoding_of(line) for _ in range(5)]
    assert images.index(single) == CORE.decoding_turn


def decoding_of(line: Line) -> Work:
    """Whose image is decoded next; at once."""
    image = decoding(line)
    line.decoded(image)
    return image.work


def test_dear_images_take_turns_one_by_one(base: BaseModel) -> None:
    line, model = Line(Pace(max_images=32, wait_seconds=60, shared_cores=1)), served(base)
    dear = encoded(model, 8, caller="a", costs=[3.9] * 8)
    line.put(dear)
    small = encoded(model, 8, caller="b", costs=[0.01] * 8)
    line.put(small)
    assert [decoding_of(line) for _ in range(12)] == [dear, *[small] * 8, dear, dear, dear]


@pytest.mark.parametrize("num_cores", [2, 4])
def test_large_images_leave_cores_to_small_ones_that_come(base: BaseModel, clock: Clock, num_cores: int) -> None:
    pace = Pace(max_images=8, wait_seconds=60, shared_cores=num_cores, max_large=num_cores // 2)
    line, model = Line(pace), served(base)
    line.put(encoded(model, 1))
    decode(line, 1)
    assert sizes(forward(line)) == [1]
    huge = encoded(model, 9, caller="a", costs=[25.0] * 9)
    line.put(huge)
    large = [decoding(line) for _ in range(pace.max_large)]
    assert line.next_step(wait=False) is None  # a core stands still, since small ones came a moment ago
    small = encoded(model, 1, caller="a")
    line.put(small)
    assert decoding_of(line) is small
    clock.now += 60
    assert sizes(forward(line)) == [1]
    more = [decoding(line) for _ in range(num_cores - pace.max_large)]
    assert all(image.work is huge for image in large + more)
    for image in large + more:
        line.decoded(image)


def test_one_core_decodes_small_and_large_images_by_turns(base: BaseModel) -> None:
    line, model = Line(CORE), served(base)
    huge, small = encoded(model, 3, costs=[25.0] * 3), encoded(model, 3)
    line.put(huge)
    line.put(small)
    assert [decoding_of(line) for _ in range(6)] == [huge, small, huge, small, huge, small]


def test_a_request_of_small_and_large_images_is_decoded_whole_and_dropped_whole(base: BaseModel) -> None:
    for is_dropped in (False, True):
        line, model = Line(CORE), served(base)
        mixed = encoded(model, 4, costs=[0.1, 25.0, 0.1, 25.0])
        line.put(mixed)
        decode(line, 2)
        if is_dropped:
            mixed.answer.cancel()
            assert forward(line) is None
        else:
            decode(line, 2)
            assert sizes(forward(line)) == [4]
        assert len(line._encoded) == 0
