"""Texts are encoded in slices and fair turns, and only as long as somebody waits for them."""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future

import pytest
import torch

from app.http.errors import QueueFullError
from app.serving.head_cache import HeadCache
from paint_core.errors import HeadError
from paint_core.models import BaseModel, build_head, load_base
from tests.app.gate import TextGate
from tests.app.test_leaving import wait_for

SLICE = 8


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


@pytest.fixture
def gate(base: BaseModel) -> TextGate:
    return TextGate(base.tokenizer)


@pytest.fixture
def heads(gate: TextGate) -> Iterator[HeadCache]:
    heads = HeadCache(100, num_cores=1, slice_texts=SLICE)
    yield heads
    gate.open()
    heads.close()


@pytest.fixture
def gated(base: BaseModel, gate: TextGate) -> BaseModel:
    return gate.before(base)


def labels(name: str, num_labels: int) -> tuple[str, ...]:
    return tuple(f"{name} {number}" for number in range(num_labels))


def asks(heads: HeadCache, base: BaseModel) -> Callable[[str, int, str], tuple[Future[torch.Tensor], Future[object]]]:
    """Who asks for heads: of a name, a number of labels and a caller, the head and the answer that waits for it."""

    def ask(name: str, num_labels: int, caller: str) -> tuple[Future[torch.Tensor], Future[object]]:
        answer: Future[object] = Future()
        return heads.get(base, labels(name, num_labels), ("{}",), answer, caller), answer

    return ask


def names(gate: TextGate) -> list[str]:
    """Whose texts each slice held."""
    return [texts[0].split()[0] for texts in gate.slices]


def test_a_head_that_is_built_in_slices_is_the_librarys(base: BaseModel, heads: HeadCache) -> None:
    classnames, templates = labels("digit", 21), ("{}", "a {} icon", "{c}!")
    head = heads.get(base, classnames, templates, Future())
    torch.testing.assert_close(head.result(30), build_head(base, classnames, templates))


def test_callers_take_turns_by_slices_however_many_labels_the_others_have(
    heads: HeadCache, gated: BaseModel, gate: TextGate
) -> None:
    ask = asks(heads, gated)
    built = [ask("huge", 30, "a")[0], *(ask(f"more{number}", 10, "a")[0] for number in range(3))]
    gate.wait()
    built.append(ask("single", 2, "b")[0])
    gate.open()
    assert [len(head.result(30)) for head in built] == [30, 10, 10, 10, 2]
    assert names(gate)[2] == "single"
    assert max(map(len, gate.slices)) == SLICE


def test_what_nobody_waits_for_any_more_is_dropped_before_it_begins_and_at_each_slice(
    heads: HeadCache, gated: BaseModel, gate: TextGate
) -> None:
    ask = asks(heads, gated)
    begun, first = ask("begun", 30, "a")
    gate.wait()
    waiting = [ask(f"gone{number}", 10, "a") for number in range(4)]
    kept, _ = ask("kept", 3, "a")
    for _, answer in waiting:
        answer.cancel()
    first.set_result("late")
    gate.open()
    assert len(kept.result(30)) == 3
    assert names(gate) == ["begun", "kept"]
    for head in (begun, *(head for head, _ in waiting)):
        with pytest.raises(CancelledError):
            head.result(30)
    wait_for(lambda: heads.admission.num_images == 0)
    again, _ = ask("begun", 30, "a")
    assert again is not begun
    assert len(again.result(30)) == 30


def test_a_head_is_built_for_whoever_stays_and_in_the_turns_of_who_has_less_to_do(
    heads: HeadCache, gated: BaseModel, gate: TextGate
) -> None:
    ask = asks(heads, gated)
    ask("busy", 30, "a")
    gate.wait()
    ask("more", 30, "a")
    shared, first = ask("shared", 4, "a")
    assert ask("shared", 4, "b")[0] is shared
    first.cancel()
    gate.permits.release(3)
    assert len(shared.result(30)) == 4
    assert names(gate)[2] == "shared"


def test_joining_does_not_move_a_head_behind_what_the_joiner_has_waiting(
    heads: HeadCache, gated: BaseModel, gate: TextGate
) -> None:
    ask = asks(heads, gated)
    ask("busy", 30, "a")
    gate.wait()
    ask("more", 30, "a")
    shared, _ = ask("shared", 4, "b")
    ask("shared", 4, "a")
    gate.permits.release(3)
    assert len(shared.result(30)) == 4
    assert names(gate)[2] == "shared"


def test_a_full_queue_refuses_new_labels_but_leaves_others_their_share_and_knows_what_is_built(
    heads: HeadCache, gated: BaseModel, gate: TextGate
) -> None:
    ask = asks(heads, gated)
    first, _ = ask("first", 60, "a")
    ask("second", 40, "a")
    with pytest.raises(QueueFullError, match="100 texts are waiting") as full:
        ask("third", 1, "a")
    assert full.value.retry_after_seconds >= 1
    assert ask("first", 60, "a")[0] is first  # waits with the one before
    ask("of another", 50, "b")
    with pytest.raises(QueueFullError):
        ask("of another, too", 1, "b")
    assert heads.admission.num_images == 150
    gate.open()
    first.result(30)
    wait_for(lambda: heads.admission.num_images == 0)
    assert ask("first", 60, "a")[0] is first


def test_building_ahead_is_done_only_when_nothing_else_is_and_gives_way(
    base: BaseModel, heads: HeadCache, gated: BaseModel, gate: TextGate
) -> None:
    heads.build_ahead(gated, labels("ahead", 20), ("{}",))
    gate.wait()
    heads.build_ahead(gated, labels("another", 20), ("{}",))
    wanted = heads.get(gated, labels("wanted", 10), ("{}",), Future(), "a")
    ahead = heads.get(gated, labels("ahead", 20), ("{}",), Future(), "b")
    assert heads.admission.num_images == 30
    gate.open()
    torch.testing.assert_close(ahead.result(30), build_head(base, labels("ahead", 20), ("{}",)))
    wanted.result(30)
    assert "another" not in names(gate)
    assert names(gate)[1] == "wanted"
    assert len(heads) == 2
    wait_for(lambda: heads.admission.num_images == 0)


def test_what_the_tower_raises_is_told_and_the_next_build_goes_on(base: BaseModel) -> None:
    def divide(texts: list[str]) -> torch.Tensor:
        return torch.tensor(len(texts) // 0)

    errors: list[Exception] = []
    heads = HeadCache(100, num_cores=1, on_error=errors.append)
    with pytest.raises(ZeroDivisionError):
        heads.embed(dataclasses.replace(base, tokenizer=divide), ["a", "b"], "a").result(30)
    for wrong in ((), ("a", "a")):
        with pytest.raises(HeadError):
            heads.get(base, wrong, ("{}",), Future()).result(30)
    assert len(heads.get(base, ("a",), ("{}",), Future()).result(30)) == 1
    assert list(map(type, errors)) == [ZeroDivisionError, HeadError, HeadError]
    heads.close()
    assert heads.admission.num_images == 0


def test_a_closed_queue_cancels_what_waits_and_takes_no_more(
    heads: HeadCache, gated: BaseModel, gate: TextGate
) -> None:
    ask = asks(heads, gated)
    waiting = [ask(f"set{number}", 10, "a")[0] for number in range(2)]
    gate.wait()
    gate.permits.release()
    heads.close()
    assert [head.cancelled() for head in waiting] == [True, True]
    with pytest.raises(RuntimeError):
        ask("late", 1, "a")
