"""Keeps the history of a long job short: of thousands of equal events only some are stored."""

from __future__ import annotations

import math


class Thinning:
    """Lets the first item and then every n-th one through, spread evenly over the whole job.

    Args:
        expected: How many there will be, as far as known; if there are many more, fewer and fewer are let through.
        most: How many of those expected are let through.
    """

    def __init__(self, expected: float, most: int) -> None:
        self._stride = max(math.ceil(expected / most), 1)
        self._most = most
        self._num_seen = 0
        self._num_due = 0

    def is_due(self) -> bool:
        """Count one more and return whether it is let through."""
        due = self._num_seen % self._stride == 0
        self._num_seen += 1
        self._num_due += due
        if self._num_due >= self._most:
            self._stride, self._num_due = 2 * self._stride, self._most // 2
        return due
