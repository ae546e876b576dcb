"""What waits: images to be decoded and images to be forwarded, in fair turns, and when the next batch leaves.

A batch leaves when the device is free, and nothing waits for a clock while the cores have nothing to do. What "free"
means differs. A GPU is free when it has no batch. On a CPU the cores that forward are those that decode: while images
are being decoded the device is busy, and what is decoded meanwhile goes into the same batch, until that is full or has
waited `wait_seconds`. So cores never do both at once, which would let every layer wait for a thread that decodes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from app.serving.model import MAX_BATCH_IMAGES, ServedModel
from app.serving.turns import Turns
from app.serving.work import Work

Batch = list[tuple[Work, list[int]]]
"""Images of one model: works, and which of their images."""


@dataclass(frozen=True)
class Pace:
    """When a batch leaves.

    Attributes:
        max_images: Most images of a batch.
        wait_seconds: How long images that are ready may wait for others that are still being decoded.
        linger_seconds: How long the device waits once nothing is being decoded, if its last batch was of several
            requests: their clients are likely to ask again at once, and a batch of one costs nearly as much as a few.
        shares_cores: Whether decoding and forwarding take the same cores.
    """

    max_images: int = MAX_BATCH_IMAGES
    wait_seconds: float = 0.0
    linger_seconds: float = 0.0
    shares_cores: bool = False

    @property
    def turn(self) -> int:
        """Images of a request that go before the next request's: half a batch."""
        return max(1, self.max_images // 2)


class _Lanes:
    """Images that are ready, one lane a model; the models take turns, so none waits for more than a batch of each."""

    def __init__(self, turn: int) -> None:
        self._turn = turn
        self._lanes: dict[ServedModel, Turns[Work]] = {}

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def has(self, num_images: int) -> bool:
        """Return whether so many images of one model are there."""
        return any(len(lane) >= num_images for lane in self._lanes.values())

    def add(self, work: Work, indices: Iterable[int]) -> None:
        """Let images wait."""
        lane = self._lanes.get(work.model)
        if lane is None:
            lane = self._lanes[work.model] = Turns(self._turn)
        lane.add(work, indices)

    def take(self, most: int) -> Batch:
        """Return the next images, all of one model, less those that nobody wants any more; empty if all are such."""
        model, lane = next(iter(self._lanes.items()))
        parts: dict[Work, list[int]] = {}
        while most and (taken := lane.take(most)) is not None:
            work, indices = taken
            if work.is_dead():
                lane.drop(work)
                continue
            parts.setdefault(work, []).extend(indices)
            most -= len(indices)
        del self._lanes[model]
        if len(lane):
            self._lanes[model] = lane  # at the end: other models come first
        return list(parts.items())


class Line:
    """Where works stand between the event loop, the threads that decode and the thread that owns the device.

    Args:
        pace: When a batch leaves.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._lock = threading.Lock()
        self._decodable = threading.Condition(self._lock)
        self._forwardable = threading.Condition(self._lock)
        self._encoded: Turns[Work] = Turns(pace.turn)
        self._ready, self._spare = _Lanes(pace.turn), _Lanes(pace.turn)
        self._num_decoding = 0
        self._is_forwarding = False
        self._has_company = False  # whether the last batch was of several works
        self._since = self._quiet_at = 0.0
        self._is_closing = False

    def put(self, work: Work) -> None:
        """Let a work stand in line."""
        with self._lock:
            if self._is_closing:
                raise RuntimeError("the engine is closed")
            if work.images:
                self._encoded.add(work, range(len(work.images)))
                self._decodable.notify(len(work.images))
            else:
                self._make_ready(work, range(len(work.pixels)))

    def next_image(self) -> tuple[Work, int] | None:
        """Return an image to be decoded, as soon as one may be; `decoded` must be told. None: the line is closed."""
        with self._lock:
            while not self._is_closing:
                if not self._may_decode():
                    self._decodable.wait()
                    continue
                work, indices = self._encoded.take(1) or _never()
                if work.is_dead():
                    self._encoded.drop(work)
                    self._look()
                    continue
                self._num_decoding += 1
                work.num_decoding += 1
                return work, indices[0]
            return None

    def decoded(self, work: Work, index: int, error: Exception | None = None) -> None:
        """Take note that an image is decoded, or cannot be."""
        with self._lock:
            self._num_decoding -= 1
            work.num_decoding -= 1
            if error is not None:
                work.broken[index] = error
                self._encoded.drop(work)
            else:
                work.num_decoded += 1
                work.decoded = time.perf_counter()
            if not work.broken and not work.is_dead():
                self._make_ready(work, (index,))
            else:
                self._look()
            is_refused = bool(work.broken) and work.num_decoding == 0  # images before this one have had their try
        if is_refused:
            work.refuse_broken()

    def next_batch(self, *, wait: bool = True) -> Batch | None:
        """Return the next batch, as soon as it may leave; `forwarded` must be told.

        Args:
            wait: Whether to wait for one.

        Returns:
            Images of one model; None: there is none now, or, having waited, the line is closed and empty.
        """
        with self._lock:
            while True:
                now = time.monotonic()
                if self._may_forward(now):
                    batch = (self._ready or self._spare).take(self._pace.max_images)
                    self._since = now
                    if batch:
                        self._is_forwarding, self._has_company = True, len(batch) > 1
                        return batch
                    self._decodable.notify_all()  # they may have stood still for what was dropped
                elif self._is_closing or not wait:
                    return None
                else:
                    self._forwardable.wait(self._time_left(now))

    def forwarded(self) -> None:
        """Take note that the device is done with a batch."""
        with self._lock:
            self._is_forwarding = False
            if self._pace.shares_cores:
                self._decodable.notify_all()

    def close(self) -> None:
        """Take no more: what is ready is still given out, what is not decoded is cancelled."""
        with self._lock:
            self._is_closing = True
            works = list(self._encoded)
            self._decodable.notify_all()
            self._forwardable.notify_all()
        for work in works:
            work.answer.cancel()

    def _make_ready(self, work: Work, indices: Iterable[int]) -> None:
        if not self._ready:
            self._since = time.monotonic()
            self._forwardable.notify()  # so that it watches the time
        (self._spare if work.is_spare else self._ready).add(work, indices)
        self._look()

    def _look(self) -> None:
        now = time.monotonic()
        is_quiet = not self._is_under_way()
        if is_quiet:
            self._quiet_at = now + (self._pace.linger_seconds if self._has_company else 0.0)
        if is_quiet or self._is_due(now):
            self._forwardable.notify()

    def _is_under_way(self) -> bool:
        return bool(len(self._encoded) or self._num_decoding)

    def _is_due(self, now: float) -> bool:
        """Return whether the next batch should wait for nothing that is not decoded yet."""
        if not self._ready:
            return False
        return now - self._since >= self._pace.wait_seconds or self._ready.has(self._pace.max_images)

    def _may_decode(self) -> bool:
        if not len(self._encoded):
            return False
        return not (self._pace.shares_cores and (self._is_forwarding or self._is_due(time.monotonic())))

    def _may_forward(self, now: float) -> bool:
        if self._is_closing:
            return bool(self._ready or self._spare)
        if self._is_under_way():
            return self._is_due(now) and not (self._pace.shares_cores and self._num_decoding)
        return bool(self._ready or self._spare) and now >= self._quiet_at

    def _time_left(self, now: float) -> float | None:
        if not self._is_under_way():
            return max(0.0, self._quiet_at - now) if self._ready or self._spare else None
        if not self._ready or self._is_due(now):
            return None  # whoever decodes will tell
        return max(0.0, self._since + self._pace.wait_seconds - now)


def _never() -> tuple[Work, list[int]]:
    raise AssertionError("an image that was there is gone")
