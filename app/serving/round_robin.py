"""A queue whose jobs have several pieces each; callers take fair turns, and so do the jobs of a caller."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_Job = TypeVar("_Job")


@dataclass(eq=False)
class _Waiting(Generic[_Job]):
    """The jobs of one caller, in the order of their turns."""

    jobs: dict[_Job, deque[int]] = field(default_factory=dict)
    given: int = 0  # in the caller's present turn
    given_of_first: int = 0  # in the present turn of the first job


class RoundRobin(Generic[_Job]):
    """Pieces of jobs, first come, first served, but only so many in one turn.

    After its turn a caller goes to the back, so one with many jobs holds up another by one turn, not by all of them.
    Within a caller's turns its jobs take turns in the same way: a job with many pieces holds up whatever comes after it
    by one turn, and one with few pieces stays together.

    Args:
        turn: What the pieces that are given out in one turn may cost; the last one may cost more.
        caller_of: Returns whose a job is; left out: all are of the same caller.
        cost_of: Returns what a piece of a job costs, 1 or more; left out: 1.
    """

    def __init__(
        self,
        turn: int,
        caller_of: Callable[[_Job], str] | None = None,
        cost_of: Callable[[_Job, int], int] | None = None,
    ) -> None:
        self._turn = turn
        self._caller_of = caller_of or (lambda _: "")
        self._cost_of = cost_of
        self._callers: dict[str, _Waiting[_Job]] = {}  # in the order of their turns
        self._num_pieces = 0

    def __len__(self) -> int:
        """Return how many pieces wait."""
        return self._num_pieces

    def __iter__(self) -> Iterator[_Job]:
        """Iterate over the jobs."""
        return (job for waiting in self._callers.values() for job in waiting.jobs)

    def num_waiting(self, caller: str) -> int:
        """Return how many pieces of a caller's jobs wait."""
        waiting = self._callers.get(caller)
        return sum(map(len, waiting.jobs.values())) if waiting else 0

    def add(self, job: _Job, pieces: Iterable[int]) -> None:
        """Let pieces wait; those of a job that waits already join it in its place."""
        waiting = self._callers.setdefault(self._caller_of(job), _Waiting())
        present = waiting.jobs.setdefault(job, deque())
        before = len(present)
        present.extend(pieces)
        self._num_pieces += len(present) - before

    def take(self, most: int) -> tuple[_Job, list[int]] | None:
        """Return the next pieces, all of one job.

        Args:
            most: How many at most, at least 1.

        Returns:
            The job and its pieces, which wait no more; None if none wait.
        """
        if not self._num_pieces:
            return None
        caller, waiting = next(iter(self._callers.items()))
        job, pieces = next(iter(waiting.jobs.items()))
        if len(self._callers) == 1:
            waiting.given = 0  # nobody is held up
        taken: list[int] = []
        while pieces and len(taken) < most and max(waiting.given, waiting.given_of_first) < self._turn:
            taken.append(pieces.popleft())
            cost = self._cost_of(job, taken[-1]) if self._cost_of else 1
            waiting.given += cost
            waiting.given_of_first += cost
        self._num_pieces -= len(taken)
        is_over = waiting.given >= self._turn and len(self._callers) > 1
        if not pieces or waiting.given_of_first >= self._turn or is_over:
            del waiting.jobs[job]
            waiting.given_of_first = 0
            if pieces:
                waiting.jobs[job] = pieces
        if waiting.given >= self._turn:
            waiting.given = 0
        if not waiting.jobs or is_over:
            del self._callers[caller]
            if waiting.jobs:
                self._callers[caller] = waiting
        return job, taken

    def drop(self, job: _Job) -> Iterable[int]:
        """Forget all pieces of a job; return those that waited."""
        caller = self._caller_of(job)
        waiting = self._callers.get(caller)
        if waiting is None or job not in waiting.jobs:
            return ()
        if next(iter(waiting.jobs)) is job:
            waiting.given_of_first = 0
        pieces = waiting.jobs.pop(job)
        self._num_pieces -= len(pieces)
        if not waiting.jobs:
            del self._callers[caller]
        return pieces
