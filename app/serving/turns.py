"""A queue whose jobs have several pieces each and take fair turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

_Job = TypeVar("_Job")


class Turns(Generic[_Job]):
    """Pieces of jobs, first come, first served, but only so many of a job in one turn: then it goes to the back.

    A job with more pieces than a turn holds up whoever comes after it by one turn, not by all of its pieces; and one
    with fewer stays together.

    Args:
        turn: Pieces of a job that are given out before the next job's.
    """

    def __init__(self, turn: int) -> None:
        self._turn = turn
        self._jobs: dict[_Job, deque[int]] = {}  # in the order of their turns
        self._num_given = 0  # of the first job, in its present turn
        self._num_pieces = 0

    def __len__(self) -> int:
        """Return how many pieces wait."""
        return self._num_pieces

    def __iter__(self) -> Iterator[_Job]:
        """Iterate over the jobs, the next one first."""
        return iter(self._jobs)

    def add(self, job: _Job, pieces: Iterable[int]) -> None:
        """Let pieces wait; those of a job that waits already join it in its place."""
        waiting = self._jobs.setdefault(job, deque())
        before = len(waiting)
        waiting.extend(pieces)
        self._num_pieces += len(waiting) - before

    def take(self, most: int) -> tuple[_Job, list[int]] | None:
        """Return the next pieces, all of one job.

        Args:
            most: How many at most, at least 1.

        Returns:
            The job and its pieces, which wait no more; None if none wait.
        """
        if not self._num_pieces:
            return None
        job, waiting = next(iter(self._jobs.items()))
        taken = [waiting.popleft() for _ in range(min(most, self._turn - self._num_given, len(waiting)))]
        self._num_pieces -= len(taken)
        self._num_given += len(taken)
        if not waiting or self._num_given == self._turn:
            del self._jobs[job]
            self._num_given = 0
            if waiting:
                self._jobs[job] = waiting
        return job, taken

    def drop(self, job: _Job) -> None:
        """Forget all pieces of a job."""
        if next(iter(self._jobs), None) is job:
            self._num_given = 0
        self._num_pieces -= len(self._jobs.pop(job, ()))
