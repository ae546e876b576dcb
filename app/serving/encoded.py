"""Images that wait to be decoded: callers take turns by what decoding costs, and large images leave room for others."""

from __future__ import annotations

import time
from collections.abc import Iterator

from app.serving.turns import Turns
from app.serving.work import Work

LARGE = 4.0
"""Megapixels' worth of work from which on an image is large: it takes a core for a tenth of a second or more."""

_COSTS_A_MEGAPIXEL = 4
_RESERVED_SECONDS = 10.0


def _caller(work: Work) -> str:
    return work.caller


def _cost(work: Work, index: int) -> int:
    return max(1, round(_COSTS_A_MEGAPIXEL * work.costs[index])) if work.costs else 1


class EncodedImages:
    """Images that wait to be decoded. The line's lock guards it.

    An image that is being decoded cannot be interrupted, and a large one takes up to seconds. So only some of the
    threads decode large images while there are others, or were a moment ago.

    Args:
        turn: What the images that are decoded in one turn of a caller, or of a request, may cost.
        max_large: Large images that may be decoded at once beside others.
    """

    def __init__(self, turn: int, max_large: int) -> None:
        self._small: Turns[Work] = Turns(turn, _caller, _cost)
        self._large: Turns[Work] = Turns(1, _caller)
        self._max_large = max_large
        self._num_large = 0
        self._was_large = False
        self._small_at = -_RESERVED_SECONDS

    def __len__(self) -> int:
        """Return how many images wait."""
        return len(self._small) + len(self._large)

    def __iter__(self) -> Iterator[Work]:
        """Iterate over the works; one may come twice."""
        yield from self._small
        yield from self._large

    def add(self, work: Work) -> None:
        """Let all images of a work wait."""
        if not work.costs or max(work.costs) < LARGE:
            self._small.add(work, range(len(work.images)))
        else:
            is_large = [cost >= LARGE for cost in work.costs]
            self._large.add(work, (index for index, large in enumerate(is_large) if large))
            if not all(is_large):
                self._small.add(work, (index for index, large in enumerate(is_large) if not large))
        if len(self._small):
            self._small_at = time.monotonic()

    def drop(self, work: Work) -> None:
        """Forget the images of a work."""
        self._small.drop(work)
        self._large.drop(work)

    def take(self) -> tuple[Work, int, bool] | None:
        """Return the next image: its work, which one it is, and whether it is large; None: none may be decoded now."""
        is_large = self._is_large_next()
        taken = (self._large if is_large else self._small).take(1)
        if taken is None:
            return None
        work, (index,) = taken
        self._num_large += is_large
        self._was_large = is_large
        return work, index, is_large

    def end(self, is_large: bool) -> None:
        """Take note that an image has been decoded, or is not going to be."""
        self._num_large -= is_large

    def _is_large_next(self) -> bool:
        if not len(self._large) or (len(self._small) and self._was_large):
            return False
        is_reserved = len(self._small) or time.monotonic() - self._small_at < _RESERVED_SECONDS
        return not is_reserved or self._num_large < self._max_large
