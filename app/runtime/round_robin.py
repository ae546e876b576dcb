"""A fair queue: its jobs have several pieces each; callers take turns, and so do the jobs of a caller."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

_Job = TypeVar("_Job")


class _Caller(Generic[_Job]):
    """The jobs of one caller, in the order of their turns."""

    def __init__(self) -> None:
        self.jobs: OrderedDict[_Job, deque[int]] = OrderedDict()
        self.turn_cost = 0  # so far
        self.job_turn_cost = 0  # of the first job, so far


class RoundRobin(Generic[_Job]):
    """Pieces of jobs, first in, first out, but only so many in one turn.

    After its turn a caller goes to the back, so one with many jobs delays another by one turn, not by all of them. Its
    jobs take turns in the same way: a job with many pieces delays the next by one turn; one with few stays together.

    Args:
        turn: What the pieces of one turn may cost; the last one may cost more.
        caller_of: Returns whose a job is; None: all jobs have the same caller.
        cost_of: Returns the cost of a piece, at least 1; None: 1.
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
        self._callers: OrderedDict[str, _Caller[_Job]] = OrderedDict()  # in the order of their turns
        self._num_pieces = 0

    def __len__(self) -> int:
        """Return how many pieces wait."""
        return self._num_pieces

    def __iter__(self) -> Iterator[_Job]:
        """Iterate over the jobs."""
        return (job for caller in self._callers.values() for job in caller.jobs)

    def num_waiting(self, name: str) -> int:
        """Return how many pieces of a caller's jobs wait."""
        caller = self._callers.get(name)
        return sum(map(len, caller.jobs.values())) if caller else 0

    def add(self, job: _Job, pieces: Iterable[int]) -> None:
        """Add pieces; if others of the job wait, these follow them."""
        caller = self._callers.setdefault(self._caller_of(job), _Caller())
        waiting = caller.jobs.setdefault(job, deque())
        before = len(waiting)
        waiting.extend(pieces)
        self._num_pieces += len(waiting) - before

    def take(self, max_pieces: int) -> tuple[_Job, list[int]] | None:
        """Take at least one and at most `max_pieces` pieces of one job; None: none wait."""
        if not self._num_pieces:
            return None
        name, caller = next(iter(self._callers.items()))
        job, waiting = next(iter(caller.jobs.items()))
        if len(self._callers) == 1:
            caller.turn_cost = 0  # it delays nobody
        taken: list[int] = []
        while waiting and len(taken) < max_pieces and max(caller.turn_cost, caller.job_turn_cost) < self._turn:
            taken.append(waiting.popleft())
            cost = self._cost_of(job, taken[-1]) if self._cost_of else 1
            caller.turn_cost += cost
            caller.job_turn_cost += cost
        self._num_pieces -= len(taken)
        if not waiting or max(caller.turn_cost, caller.job_turn_cost) >= self._turn:
            caller.jobs.move_to_end(job)
            caller.job_turn_cost = 0
        if caller.turn_cost >= self._turn:
            self._callers.move_to_end(name)
            caller.turn_cost = 0
        if not waiting:
            self._remove(name, job)
        return job, taken

    def drop(self, job: _Job) -> Iterable[int]:
        """Remove a job; return its pieces that waited."""
        name = self._caller_of(job)
        caller = self._callers.get(name)
        if caller is None or job not in caller.jobs:
            return ()
        if next(iter(caller.jobs)) is job:
            caller.job_turn_cost = 0
        self._num_pieces -= len(caller.jobs[job])
        return self._remove(name, job)

    def _remove(self, name: str, job: _Job) -> deque[int]:
        jobs = self._callers[name].jobs
        waiting = jobs.pop(job)
        if not jobs:
            del self._callers[name]
        return waiting
