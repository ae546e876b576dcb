"""One at a time, by turns of the owners; few wait, and not for ever."""

import threading
import time

import pytest

from app.http.errors import CompositionInProgressError
from app.versions.fair_lock import Turns


def queue(turns: Turns, owner: str, order: list[str]) -> threading.Thread:
    """A thread that waits for its turn and writes its owner down."""

    def take() -> None:
        with turns.take(owner):
            order.append(owner)

    before = turns.num_waiting
    thread = threading.Thread(target=take)
    thread.start()
    while turns.num_waiting == before:
        time.sleep(0.001)
    return thread


def test_whoever_had_no_turn_yet_comes_before_whoever_asks_again() -> None:
    turns, order = Turns(), list[str]()
    with turns.take("alice"):
        threads = [queue(turns, owner, order) for owner in ("alice", "alice", "bob", "carol")]
    for thread in threads:
        thread.join()
    assert order == ["bob", "carol", "alice", "alice"]
    assert turns.num_waiting == 0


def test_few_wait_and_of_one_owner_still_fewer() -> None:
    turns, order = Turns(max_waiting=3, max_waiting_of_one=2), list[str]()
    with turns.take("alice"):
        threads = [queue(turns, "alice", order) for _ in range(2)]
        with pytest.raises(CompositionInProgressError), turns.take("alice"):
            pass
        threads.append(queue(turns, "bob", order))
        with pytest.raises(CompositionInProgressError), turns.take("carol"):
            pass
    for thread in threads:
        thread.join()


def test_a_turn_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.versions.fair_lock.WAIT_SECONDS", 0.05)
    turns = Turns()
    with turns.take("alice"), pytest.raises(CompositionInProgressError), turns.take("bob"):
        pass
    with turns.take("bob"):
        assert turns.num_waiting == 0


def test_the_turn_ends_with_an_error_too() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="broken"), turns.take("alice"):
        raise ValueError("broken")
    with turns.take("alice"):
        pass
