"""The cache of zero-shot heads, and the thread of the text tower that builds them and embeds texts.

A head of thousands of labels takes a large tower minutes. So texts are encoded slice by slice, callers take turns by
slices, and what nobody waits for any more is dropped before its next slice.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from app.http.admission import Admission
from app.runtime.cores import take_cores
from app.runtime.round_robin import RoundRobin
from paint_core.models import BaseModel, encode_texts
from paint_core.models.heads import make_prompts, pool_prompts

CPU_SLICE_TEXTS, DEVICE_SLICE_TEXTS = 32, 256
"""So many that a text costs no more than in a larger slice, and so few that they take ViT-B/32 about a second."""

_FLOAT_BYTES = 4
_TEXT_BYTES = 50
"""What a string of Python takes in addition to its characters, about."""

Waiter = Future[Any]
"""The answer to a request; once it is there, or cancelled, the request waits no more."""


class _Key(tuple[Any, ...]):
    """Fingerprint, labels and templates. Hashed once: hashing a thousand labels takes longer than the lookup."""

    def __init__(self, _: tuple[Any, ...]) -> None:
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


@dataclass(eq=False)
class _Build:
    """Texts that are encoded slice by slice.

    Attributes:
        texts: Returns the texts; called by the thread that encodes.
        finish: Makes the result of their embeddings [N, D].
        key: Of the head in the cache; None: texts that are only embedded.
        num_bytes: What the head takes in the cache.
        counted_for: The caller for whom the texts count as waiting.
        is_over: Whether there is nothing left to encode.
        waiters: The answers that need the result.
        prompts: What `texts` returned.
        embeddings: Of the slices so far.
    """

    base: BaseModel
    num_texts: int
    texts: Callable[[], Sequence[str]]
    finish: Callable[[Tensor], Tensor]
    caller: str
    key: _Key | None = None
    num_bytes: int = 0
    is_over: bool = False
    waiters: list[Waiter] = field(default_factory=list)
    result: Future[Tensor] = field(default_factory=Future)
    prompts: Sequence[str] = ()
    embeddings: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counted_for = self.caller

    def encode(self, indices: Sequence[int]) -> Tensor | None:
        """Encode the next texts; return the result if they were the last."""
        if not self.embeddings:
            self.prompts = self.texts()
        self.embeddings.append(encode_texts(self.base, [self.prompts[index] for index in indices]))
        is_last = sum(map(len, self.embeddings)) == self.num_texts
        return self.finish(torch.cat(self.embeddings)).float().cpu() if is_last else None


class HeadCache:
    """Heads by (base, classnames, templates), least recently used out first.

    The key names the base, not the version: patches leave the text tower alone, so all versions of a base share their
    heads. Callers that ask for the same head at once wait for one build, which goes on as long as one of them waits.

    The thread lives as long as there is something to encode: it computes with several cores, so it has to end
    (`app.runtime.cores`).

    Args:
        max_texts: How many texts may wait at once.
        num_cores: How many cores encoding may take.
        slice_texts: How many texts are encoded at once, and in one turn of a caller.
        max_bytes: What heads and their labels may take; the newest is kept whatever it takes.
        on_error: Called with what the tower raises.
    """

    def __init__(
        self,
        max_texts: int,
        num_cores: int,
        *,
        slice_texts: int = CPU_SLICE_TEXTS,
        max_bytes: int = 256 << 20,
        on_error: Callable[[Exception], object] = repr,
    ) -> None:
        self.admission = Admission(max_texts, "texts")
        self._num_cores = num_cores
        self._slice_texts = slice_texts
        self._max_bytes = max_bytes
        self._on_error = on_error
        self._lock = threading.Lock()
        self._heads: OrderedDict[_Key, _Build] = OrderedDict()
        self._waiting: RoundRobin[_Build] = RoundRobin(slice_texts, lambda build: build.caller)
        self._ahead: RoundRobin[_Build] = RoundRobin(slice_texts)  # gives way to all others
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self.num_bytes = 0  # of the cached heads and their labels, about

    @property
    def is_idle(self) -> bool:
        """Whether nothing is encoded or waits for it."""
        return self._thread is None

    def __len__(self) -> int:
        """Return how many heads are cached."""
        return len(self._heads)

    def get(
        self, base: BaseModel, classnames: tuple[str, ...], templates: tuple[str, ...], waiter: Waiter, caller: str = ""
    ) -> Future[Tensor]:
        """Return the head [C, D] of C labels on the CPU, once it is built. The future is shared: do not cancel it.

        `waiter` is the answer that needs it: a head is not built if all its waiters are done before.
        """
        key = _Key((base.fingerprint, classnames, templates))
        with self._lock:
            build = self._heads.get(key)
            if build is None:
                build = _build_head(base, key, classnames, templates, caller)
                self._enqueue(build, waiter, self._waiting)
                self._keep(key, build)
            else:
                self._heads.move_to_end(key)
                if not build.is_over:
                    self._join(build, waiter, caller)
            return build.result

    def build_ahead(self, base: BaseModel, classnames: tuple[str, ...], templates: tuple[str, ...]) -> None:
        """Build a head that will probably be asked for, while the text tower has nothing else to do."""
        key = _Key((base.fingerprint, classnames, templates))
        with self._lock:
            if self.is_idle and not self._is_closed and key not in self._heads:
                build = _build_head(base, key, classnames, templates, "")
                self._enqueue(build, Future(), self._ahead)
                self._keep(key, build)

    def embed(self, base: BaseModel, texts: Sequence[str], caller: str) -> Future[Tensor]:
        """Return the embeddings [N, D] of texts, once they are encoded. Cancel the future to give them up."""
        build = _Build(base, len(texts), lambda: texts, lambda embeddings: embeddings, caller)
        with self._lock:
            self._enqueue(build, build.result, self._waiting)
        return build.result

    def close(self) -> None:
        """Encode no more than what is being encoded; the rest is cancelled."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
        if thread is not None:
            thread.join()

    def _enqueue(self, build: _Build, waiter: Waiter, queue: RoundRobin[_Build]) -> None:
        if self._is_closed:
            raise RuntimeError("the engine is closed")
        self.admission.enter(build.num_texts, build.caller)
        build.waiters.append(waiter)
        queue.add(build, range(max(1, build.num_texts)))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="paintbox-text", daemon=True)
            self._thread.start()

    def _join(self, build: _Build, waiter: Waiter, caller: str) -> None:
        """Wait for a build, too; it goes on in the turns of the caller of whom less waits."""
        texts = tuple(self._ahead.drop(build))
        has_less = self._waiting.num_waiting(caller) + build.num_texts < self._waiting.num_waiting(build.caller)
        if not texts and has_less:
            texts = tuple(self._waiting.drop(build))
        if texts:
            build.caller = caller
            self._waiting.add(build, texts)
        build.waiters = [each for each in build.waiters if not each.done()]
        build.waiters.append(waiter)

    def _keep(self, key: _Key, build: _Build) -> None:
        self._heads[key] = build
        self.num_bytes += build.num_bytes
        while self.num_bytes > self._max_bytes and len(self._heads) > 1:
            _, oldest = self._heads.popitem(last=False)
            self.num_bytes -= oldest.num_bytes

    def _run(self) -> None:
        take_cores(self._num_cores)
        while (taken := self._take()) is not None:
            self._encode(*taken)

    def _take(self) -> tuple[_Build, list[int]] | None:
        """Return the next slice, dropping what nobody waits for; None: the thread has to end."""
        while True:
            with self._lock:
                taken = (self._waiting if len(self._waiting) else self._ahead).take(self._slice_texts)
                if taken is None:
                    self._thread = None
                    return None
                if not self._is_closed and not all(waiter.done() for waiter in taken[0].waiters):
                    return taken
                self._end(taken[0], is_done=False)
            taken[0].result.cancel()  # without the lock: this calls whoever waits

    def _encode(self, build: _Build, indices: Sequence[int]) -> None:
        try:
            result = build.encode(indices)
            if result is None:
                return
            finish = partial(build.result.set_result, result)
        except Exception as error:  # propagate to the waiting requests; keep the thread alive
            self._on_error(error)
            result, finish = None, partial(build.result.set_exception, error)
        with self._lock:
            self._end(build, is_done=result is not None)
        with suppress(InvalidStateError):
            finish()

    def _end(self, build: _Build, *, is_done: bool) -> None:
        build.is_over = True
        build.waiters, build.prompts, build.embeddings = [], (), []  # the cache counts only the head
        self._waiting.drop(build)
        self._ahead.drop(build)
        self.admission.leave(build.num_texts, build.counted_for, is_done=is_done)
        if not is_done and build.key is not None and self._heads.get(build.key) is build:
            del self._heads[build.key]
            self.num_bytes -= build.num_bytes


def _build_head(
    base: BaseModel, key: _Key, classnames: tuple[str, ...], templates: tuple[str, ...], caller: str
) -> _Build:
    prompts, pool = partial(make_prompts, classnames, templates), partial(pool_prompts, num_templates=len(templates))
    num_bytes = len(classnames) * base.embed_dim * _FLOAT_BYTES
    num_bytes += sum(len(text) + _TEXT_BYTES for text in (*classnames, *templates))
    return _Build(base, len(classnames) * len(templates), prompts, pool, caller, key, num_bytes)
