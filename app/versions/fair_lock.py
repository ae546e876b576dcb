"""A lock that is fair to owners: frequent callers wait longer than occasional ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from app.http.errors import CompositionInProgressError

WAIT_SECONDS = 30.0
_MOST_NAMES = 1000


class Turns:
    """Admits one caller at a time. Others wait, few of them and for a limited time, because each blocks a thread.

    `max_waiting` callers may wait, `max_waiting_of_one` of one owner.
    """

    def __init__(self, max_waiting: int = 8, max_waiting_of_one: int = 2) -> None:
        self._max_waiting = max_waiting
        self._max_waiting_of_one = max_waiting_of_one
        self._changed = threading.Condition()
        self._is_taken = False
        self._waiting: list[tuple[str | None, object]] = []
        self._last_turns: dict[str | None, int] = {}
        self._numbers = count(1)

    @property
    def num_waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @contextmanager
    def take(self, owner: str | None) -> Iterator[None]:
        """Exclude all others while the context lasts.

        Args:
            owner: By the name on the key; None: not counted.

        Yields:
            None: Once it is this caller's turn.
        """
        with self._changed:
            if self._is_taken or self._waiting:
                self._wait(owner)
            self._is_taken = True
            self._note_turn(owner)
        try:
            yield
        finally:
            with self._changed:
                self._is_taken = False
                self._changed.notify_all()

    def _wait(self, owner: str | None) -> None:
        of_one = sum(each == owner for each, _ in self._waiting)
        if len(self._waiting) >= self._max_waiting or (owner is not None and of_one >= self._max_waiting_of_one):
            raise CompositionInProgressError()
        ticket = (owner, object())
        self._waiting.append(ticket)
        try:
            if not self._changed.wait_for(lambda: not self._is_taken and self._next() is ticket, WAIT_SECONDS):
                raise CompositionInProgressError()
        finally:
            self._waiting.remove(ticket)
            self._changed.notify_all()

    def _next(self) -> tuple[str | None, object]:
        """Return the first ticket of the owner whose last turn is longest ago."""
        return min(self._waiting, key=lambda ticket: self._last_turns.get(ticket[0], 0))

    def _note_turn(self, owner: str | None) -> None:
        if len(self._last_turns) >= _MOST_NAMES:
            self._last_turns.clear()
        self._last_turns[owner] = next(self._numbers)
