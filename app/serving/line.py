"""What waits: images to be decoded and images to be forwarded, in fair turns, and when the next batch leaves.

A batch leaves when the device is free, and nothing waits for a clock while the cores have nothing to do. What "free"
means differs. A GPU is free when it has no batch: threads that decode feed the one that owns it. On a CPU the cores
that forward are those that decode, and each does one thing at a time by itself: it takes a batch if a full one is
ready, and decodes an image if not. What is left when nothing is to be decoded is shared out among the cores that are
free. So all cores work, and no layer of a forward waits for a thread that decodes.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from app.serving.encoded import EncodedImages
from app.serving.model import MAX_BATCH_IMAGES, ServedModel
from app.serving.turns import Turns
from app.serving.work import Work

Batch = list[tuple[Work, list[int]]]
"""Images of one model: works, and which of their images."""

_LEAST_PART_IMAGES = 2
_QUICK_IMAGE_SECONDS = 0.005
_LONGEST_BATCH_SECONDS = 0.8
"""Of a core, with more than one image: whoever comes meanwhile waits, and many images cost little less than a few."""

_LEAST_SHARED_SECONDS = 0.02
"""Of a forward that several cores do together: at the end of each layer they wait for each other."""


@dataclass(frozen=True)
class Pace:
    """When a batch leaves.

    Attributes:
        max_images: Most images of a batch; of a model that is slow on a core, fewer.
        enough_images: Images of a quick model that leave although more are being decoded, so that one core forwards
            while another decodes; 0: as many as a batch has at most.
        wait_seconds: How long images that are ready may wait for others that are still being decoded.
        linger_seconds: How long the device waits once nothing is being decoded, if its last batch was of several
            requests: their clients are likely to ask again at once, and a batch of one costs nearly as much as a few.
        shared_cores: Cores that decode and forward alike; 0: the device is apart from what decodes.
        max_large: Large images that may be decoded at once while there are others.
    """

    max_images: int = MAX_BATCH_IMAGES
    enough_images: int = 0
    wait_seconds: float = 0.0
    linger_seconds: float = 0.0
    shared_cores: int = 0
    max_large: int = 1

    def most(self, model: ServedModel) -> int:
        """Return how many images of a model a batch has at most."""
        seconds = model.runner.image_seconds
        if not self.shared_cores or seconds < _QUICK_IMAGE_SECONDS or math.isinf(seconds):
            return self.max_images
        return min(self.max_images, max(1, round(_LONGEST_BATCH_SECONDS / seconds)))

    def full(self, model: ServedModel) -> int:
        """Return how many images of a model make a batch that waits for no more."""
        is_quick = self.enough_images and model.runner.image_seconds < _QUICK_IMAGE_SECONDS
        return min(self.enough_images, self.max_images) if is_quick else self.most(model)

    @property
    def decoding_turn(self) -> int:
        """Images of a request that are decoded before the next request's: half a batch."""
        return max(1, self.max_images // 2)

    def turn(self, model: ServedModel) -> int:
        """Return how many images of a request are forwarded before the next request's: half a batch."""
        return max(1, self.most(model) // 2)


@dataclass(frozen=True)
class Decoding:
    """An image to decode; `Line.decoded` must be told."""

    work: Work
    index: int
    is_large: bool = False


@dataclass(frozen=True)
class Forwarding:
    """A batch to forward with so many cores; `Line.forwarded` must be told."""

    batch: Batch
    num_cores: int


class _Lanes:
    """Images that are ready, one lane a model; the models take turns, so none waits for more than a batch of each."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._lanes: dict[ServedModel, Turns[Work]] = {}

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def are_full(self) -> bool:
        """Return whether enough images of one model are there for a batch that waits for no more."""
        return any(len(lane) >= self._pace.full(model) for model, lane in self._lanes.items())

    def next(self) -> tuple[ServedModel, int]:
        """Return the model whose turn it is, and how many images of it are there."""
        model, lane = next(iter(self._lanes.items()))
        return model, len(lane)

    def add(self, work: Work, indices: Iterable[int]) -> None:
        """Let images wait."""
        lane = self._lanes.get(work.model)
        if lane is None:
            lane = self._lanes[work.model] = Turns(self._pace.turn(work.model), lambda each: each.caller)
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
    """Where works stand between the event loop and the threads that decode and forward.

    With a device apart, threads that decode call `next_image` and the one that forwards calls `next_batch`. Where the
    cores are shared, a thread for each core calls `next_step`.

    Args:
        pace: When a batch leaves.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._lock = threading.Lock()
        self._decodable = threading.Condition(self._lock)
        self._forwardable = self._decodable if pace.shared_cores else threading.Condition(self._lock)
        self._encoded = EncodedImages(pace.decoding_turn, pace.max_large)
        self._ready, self._spare = _Lanes(pace), _Lanes(pace)
        self._num_decoding = 0
        self._num_free_cores = pace.shared_cores
        self._is_sharing = False  # whether several cores forward a batch together
        self._has_company = False  # whether the last batch was of several works
        self._since = self._quiet_at = 0.0
        self._is_closing = False

    def put(self, work: Work) -> None:
        """Let a work stand in line."""
        with self._lock:
            if self._is_closing:
                raise RuntimeError("the engine is closed")
            if work.images:
                self._encoded.add(work)
                self._decodable.notify(1 if self._pace.shared_cores else len(work.images))
            else:
                self._make_ready(work, range(len(work.pixels)))
                self._forwardable.notify()

    def next_image(self) -> Decoding | None:
        """Return an image to be decoded, as soon as there is one. None: the line is closed."""
        with self._lock:
            while not self._is_closing:
                if (image := self._take_image()) is not None:
                    return image
                self._decodable.wait()
            return None

    def next_batch(self, *, wait: bool = True) -> Batch | None:
        """Return the next batch, as soon as it may leave.

        Args:
            wait: Whether to wait for one.

        Returns:
            Images of one model; None: there is none now, or, having waited, the line is closed and empty.
        """
        with self._lock:
            while True:
                now = time.monotonic()
                if self._may_forward(now):
                    if batch := self._take_batch(self._pace.max_images, now):
                        return batch
                elif not wait or (self._is_closing and not self._num_decoding):
                    return None
                else:
                    self._forwardable.wait(self._time_left(now))

    def next_step(self, *, wait: bool = True) -> Decoding | Forwarding | None:
        """Return what one of the threads that share the cores is to do, as soon as there is something.

        Args:
            wait: Whether to wait for it.

        Returns:
            What to do; None: there is nothing now, or, having waited, the line is closed and empty.
        """
        with self._lock:
            while True:
                now = time.monotonic()
                if self._num_free_cores and (step := self._take_step(now)) is not None:
                    if self._num_free_cores and (len(self._encoded) or self._may_forward(now)):
                        self._forwardable.notify()  # and that thread tells the next one
                    return step
                if not wait or (self._is_closing and not self._ready and not self._spare):
                    return None
                self._forwardable.wait(self._time_left(now) if self._num_free_cores else None)

    def decoded(self, image: Decoding, error: Exception | None = None) -> None:
        """Take note that an image is decoded, or cannot be."""
        work = image.work
        with self._lock:
            self._num_decoding -= 1
            self._num_free_cores += 1
            self._encoded.end(image.is_large)
            if image.is_large and len(self._encoded):
                self._decodable.notify()  # another one may be decoded now
            work.num_decoding -= 1
            if error is not None:
                work.broken[image.index] = error
                self._encoded.drop(work)
            else:
                work.num_decoded += 1
                work.decoded = time.perf_counter()
            if not work.broken and not work.is_dead():
                self._make_ready(work, (image.index,))
            else:
                self._look()
            is_refused = bool(work.broken) and work.num_decoding == 0  # images before this one have had their try
        if is_refused:
            work.refuse_broken()

    def forwarded(self, forwarding: Forwarding) -> None:
        """Take note that a batch is done, and its cores are free."""
        with self._lock:
            self._num_free_cores += forwarding.num_cores
            self._is_sharing &= forwarding.num_cores == 1
            self._forwardable.notify(forwarding.num_cores)

    def close(self) -> None:
        """Take no more: what is ready is still given out, what is not decoded is cancelled."""
        with self._lock:
            self._is_closing = True
            works = list(self._encoded)
            self._decodable.notify_all()
            self._forwardable.notify_all()
        for work in works:
            work.answer.cancel()

    def _take_image(self) -> Decoding | None:
        while (taken := self._encoded.take()) is not None:
            work, index, is_large = taken
            if work.is_dead():
                self._encoded.end(is_large)
                self._encoded.drop(work)
                self._look()
                continue
            self._num_decoding += 1
            self._num_free_cores -= 1
            work.num_decoding += 1
            return Decoding(work, index, is_large)
        return None

    def _take_batch(self, most: int, now: float) -> Batch:
        batch = (self._ready or self._spare).take(most)
        self._since = now
        if batch:
            self._has_company = len(batch) > 1
        return batch

    def _take_step(self, now: float) -> Decoding | Forwarding | None:
        while self._may_forward(now):
            num_images, num_cores = self._share()
            if batch := self._take_batch(num_images, now):
                self._num_free_cores -= num_cores
                self._is_sharing |= num_cores > 1
                return Forwarding(batch, num_cores)
        return None if self._is_closing else self._take_image()

    def _share(self) -> tuple[int, int]:
        """Return how many images the next forward takes, and how many cores."""
        num_cores = self._num_free_cores
        model, num_waiting = (self._ready or self._spare).next()
        most = self._pace.most(model)
        if num_cores == 1 or self._is_under_way():
            return most, 1
        parts = min(num_cores, max(1, num_waiting // _LEAST_PART_IMAGES))
        num_images = math.ceil(num_waiting / parts)
        is_long = num_images * model.runner.image_seconds >= _LEAST_SHARED_SECONDS
        if is_long and parts < num_cores and not self._is_sharing:
            return min(self._pace.max_images, num_waiting), num_cores
        return min(most, num_images), 1

    def _make_ready(self, work: Work, indices: Iterable[int]) -> None:
        if not self._ready:
            self._since = time.monotonic()
            self._tell()  # so that it watches the time
        (self._spare if work.is_spare else self._ready).add(work, indices)
        self._look()

    def _look(self) -> None:
        now = time.monotonic()
        is_quiet = not self._is_under_way()
        if is_quiet:
            self._quiet_at = now + (self._pace.linger_seconds if self._has_company else 0.0)
        if is_quiet or self._is_due(now):
            self._tell()

    def _tell(self) -> None:
        """Wake the thread that forwards; where cores are shared, whoever changed something looks for itself."""
        if not self._pace.shared_cores:
            self._forwardable.notify()

    def _is_under_way(self) -> bool:
        return bool(len(self._encoded) or self._num_decoding)

    def _is_due(self, now: float) -> bool:
        """Return whether the next batch should wait for nothing that is not decoded yet."""
        if not self._ready:
            return False
        return now - self._since >= self._pace.wait_seconds or self._ready.are_full()

    def _may_forward(self, now: float) -> bool:
        if self._is_closing:
            return bool(self._ready or self._spare)
        if self._is_under_way():
            return self._is_due(now)
        return bool(self._ready or self._spare) and now >= self._quiet_at

    def _time_left(self, now: float) -> float | None:
        if not self._is_under_way():
            return max(0.0, self._quiet_at - now) if self._ready or self._spare else None
        if not self._ready or self._is_due(now):
            return None  # whoever decodes will tell
        return max(0.0, self._since + self._pace.wait_seconds - now)
