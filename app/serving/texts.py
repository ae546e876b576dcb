"""What waits for the text tower: heads to build and texts to embed, in slices and fair turns, as long as anybody waits.

A head of thousands of labels takes a large tower minutes. So it is built slice by slice, callers take turns by slices,
and before each slice it is asked whether anybody still waits for the result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from app.serving.admission import Admission
from app.serving.cores import take_cores
from app.serving.round_robin import RoundRobin
from paint_core.models import BaseModel, encode_texts

CPU_SLICE_TEXTS, DEVICE_SLICE_TEXTS = 32, 256
"""So many that a text costs no more than in a larger slice, and so few that they take ViT-B/32 about a second."""


Waiter = Future[Any]
"""Somebody's answer: once it is there, or cancelled, they wait no more."""


@dataclass(eq=False)
class Build:
    """Texts that are encoded slice by slice. What is not given to the constructor, the queue's lock guards.

    Attributes:
        base: Whose text tower.
        num_texts: How many they are.
        texts: Returns them; called before the first slice, by the thread that encodes.
        finish: Makes the result of their embeddings [N, D].
        caller: In whose turns.
        result: What comes out; cancelled if nobody waits for it any more.
    """

    base: BaseModel
    num_texts: int
    texts: Callable[[], Sequence[str]]
    finish: Callable[[Tensor], Tensor]
    caller: str
    result: Future[Tensor] = field(default_factory=Future)
    waiters: list[Waiter] = field(default_factory=list)
    counted_for: str | None = None
    is_over: bool = False
    is_given_up: bool = False
    _texts: Sequence[str] = ()
    _parts: list[Tensor] = field(default_factory=list)

    def encode(self, indices: Sequence[int]) -> Tensor | None:
        """Encode the next texts; return the result if they were the last."""
        if not self._parts:
            self._texts = self.texts()
        self._parts.append(encode_texts(self.base, [self._texts[index] for index in indices]))
        is_last = sum(map(len, self._parts)) == self.num_texts
        return self.finish(torch.cat(self._parts)).float().cpu() if is_last else None


class TextQueue:
    """Builds that wait for the text tower, and a thread that lives as long as there are any.

    It computes with several cores, so it has to end (`app.serving.cores`).

    Args:
        max_texts: How many may wait at once.
        num_cores: What encoding may take.
        slice_texts: How many are encoded at once, and in one turn of a caller.
        on_error: Told what the tower raises.
    """

    def __init__(
        self,
        max_texts: int,
        num_cores: int,
        slice_texts: int = CPU_SLICE_TEXTS,
        on_error: Callable[[Exception], object] = repr,
    ) -> None:
        self.admission = Admission(max_texts, "texts")
        self._num_cores = num_cores
        self._slice_texts = slice_texts
        self._on_error = on_error
        self._lock = threading.Lock()
        self._wanted: RoundRobin[Build] = RoundRobin(slice_texts, lambda build: build.caller)
        self._ahead: RoundRobin[Build] = RoundRobin(slice_texts)
        self._thread: threading.Thread | None = None
        self._is_closed = False

    @property
    def num_texts(self) -> int:
        """Texts that somebody waits for."""
        return self.admission.num_images

    @property
    def is_idle(self) -> bool:
        """Whether nothing is encoded or waits for it."""
        return self._thread is None

    def put(self, build: Build, waiter: Waiter) -> None:
        """Let a build wait for its turns.

        Args:
            build: What to encode.
            waiter: Who wants it.

        Raises:
            RuntimeError: The queue is closed.
        """
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the engine is closed")
            self._count(build, build.caller)
            build.waiters.append(waiter)
            self._wanted.add(build, range(max(1, build.num_texts)))
            self._start()

    def put_ahead(self, build: Build) -> bool:
        """Encode what nobody waits for yet, unless there is something else to do; return whether that is so."""
        with self._lock:
            if self._is_closed or self._thread is not None:
                return False
            self._ahead.add(build, range(max(1, build.num_texts)))
            self._start()
            return True

    def join(self, build: Build, waiter: Waiter, caller: str) -> bool:
        """Wait for what was put before, too; it goes on in the turns of that caller of whom less waits.

        Args:
            build: The build.
            waiter: Who wants it.
            caller: In whose turns it may go on.

        Returns:
            Whether it has not been given up.
        """
        with self._lock:
            if build.is_over:
                return not build.is_given_up
            if build.counted_for is None:
                self._count(build, caller)
                self._move(build, self._ahead, caller)
            elif self._wanted.num_waiting(caller) + build.num_texts < self._wanted.num_waiting(build.caller):
                self._move(build, self._wanted, caller)
            build.waiters = [each for each in build.waiters if not each.done()]
            build.waiters.append(waiter)
            return True

    def close(self) -> None:
        """Encode no more than what is being encoded; the rest is cancelled."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
        if thread is not None:
            thread.join()

    def _count(self, build: Build, caller: str) -> None:
        self.admission.enter(build.num_texts, caller)
        build.counted_for = caller

    def _move(self, build: Build, queue: RoundRobin[Build], caller: str) -> None:
        texts = tuple(queue.drop(build))
        build.caller = caller
        if texts:
            self._wanted.add(build, texts)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="paintbox-text", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        take_cores(self._num_cores)
        while (taken := self._take()) is not None:
            self._encode(*taken)

    def _encode(self, build: Build, indices: Sequence[int]) -> None:
        try:
            result = build.encode(indices)
        except Exception as error:  # an edge: whoever waits gets it, the thread lives on
            self._on_error(error)
            self._end(build, is_done=False)
            with suppress(InvalidStateError):
                build.result.set_exception(error)
            return
        if result is not None:
            self._end(build, is_done=True)
            with suppress(InvalidStateError):
                build.result.set_result(result)

    def _take(self) -> tuple[Build, list[int]] | None:
        """Return the next slice, giving up what nobody waits for; None: the thread has to end."""
        while True:
            with self._lock:
                taken = (self._wanted if len(self._wanted) else self._ahead).take(self._slice_texts)
                if taken is None:
                    self._thread = None
                    return None
                build = taken[0]
                is_wanted = build.counted_for is None or not all(each.done() for each in build.waiters)
                if is_wanted and not self._is_closed:
                    return taken
                build.is_given_up = True
                self._forget(build, is_done=False)
            build.result.cancel()  # without the lock: it tells whoever waits

    def _end(self, build: Build, *, is_done: bool) -> None:
        with self._lock:
            self._forget(build, is_done=is_done)

    def _forget(self, build: Build, *, is_done: bool) -> None:
        build.is_over = True
        self._wanted.drop(build)
        self._ahead.drop(build)
        if build.counted_for is not None:
            self.admission.leave(build.num_texts, build.counted_for, is_done=is_done)
