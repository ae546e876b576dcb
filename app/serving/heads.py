"""Zero-shot heads, each built once: a bounded cache in front of the text tower."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from app.serving.texts import Build, TextQueue, Waiter
from paint_core.models import BaseModel
from paint_core.models.heads import make_prompts, pool_prompts

_FLOAT_BYTES = 4
_TEXT_BYTES = 50
"""What a string of Python takes beside its characters, about."""


class _Key:
    """What names a head. Its hash is taken once: that of a thousand labels takes longer than all the rest of a look."""

    __slots__ = ("_hash", "_parts")

    def __init__(self, fingerprint: str, classnames: tuple[str, ...], templates: tuple[str, ...]) -> None:
        self._parts = (fingerprint, classnames, templates)
        self._hash = hash(self._parts)

    @property
    def labels(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Classnames and templates."""
        return self._parts[1:]

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._hash == other._hash and self._parts == other._parts


@dataclass(frozen=True, eq=False)
class _Entry:
    build: Build
    num_bytes: int

    @property
    def head(self) -> Future[Tensor]:
        """The head, once it is built."""
        return self.build.result


class HeadCache:
    """Heads by (base, classnames, templates), least recently used out first.

    The key names the base and not the version: patches leave the text tower alone, so all versions of a base share
    their heads, and an activation finds them warm. Callers that ask for the same head at once wait for one build, which
    goes on as long as one of them waits.

    Args:
        texts: Builds them.
        max_bytes: What heads and their labels may take; the newest is kept whatever it takes.
    """

    def __init__(self, texts: TextQueue, max_bytes: int = 256 << 20) -> None:
        self._texts = texts
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self,
        base: BaseModel,
        classnames: tuple[str, ...],
        templates: tuple[str, ...],
        waiter: Waiter,
        caller: str = "",
    ) -> Future[Tensor]:
        """Return the head [C, D] on the CPU, once it is built.

        Args:
            base: Whose text tower.
            classnames: C labels.
            templates: Prompt templates.
            waiter: The answer that needs it; if that is there before it is built, and nobody else waits, it is not.
            caller: In whose turns it is built.

        Returns:
            A future that is shared: do not cancel it.
        """
        key = _Key(base.fingerprint, classnames, templates)
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and (_is_built(entry.head) or self._texts.join(entry.build, waiter, caller)):
                self._entries.move_to_end(key)
                return entry.head
            build = _build_of(base, classnames, templates, caller)
            self._texts.put(build, waiter)
            self._keep(key, build)
        build.result.add_done_callback(lambda done: self._forget_failed(key, done))
        return build.result

    def build_ahead(self, base: BaseModel, classnames: tuple[str, ...], templates: tuple[str, ...]) -> None:
        """Build a head that will probably be asked for, if the text tower has nothing else to do."""
        key = _Key(base.fingerprint, classnames, templates)
        build = _build_of(base, classnames, templates, "")
        with self._lock:
            if key in self._entries or not self._texts.put_ahead(build):
                return
            self._keep(key, build)
        build.result.add_done_callback(lambda done: self._forget_failed(key, done))

    @property
    def num_bytes(self) -> int:
        """What the heads and their labels take, about."""
        return self._num_bytes

    def __len__(self) -> int:
        """Return how many heads are kept."""
        return len(self._entries)

    def _keep(self, key: _Key, build: Build) -> None:
        before = self._entries.pop(key, None)  # one that was given up
        entry = self._entries[key] = _Entry(build, _count_bytes(build.base, *key.labels))
        self._num_bytes += entry.num_bytes - (before.num_bytes if before is not None else 0)
        while self._num_bytes > self._max_bytes and len(self._entries) > 1:
            _, oldest = self._entries.popitem(last=False)
            self._num_bytes -= oldest.num_bytes

    def _forget_failed(self, key: _Key, head: Future[Tensor]) -> None:
        if not head.cancelled() and head.exception() is None:
            return
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.head is head:
                del self._entries[key]
                self._num_bytes -= entry.num_bytes


def _is_built(head: Future[Tensor]) -> bool:
    return head.done() and not head.cancelled()


def _count_bytes(base: BaseModel, classnames: tuple[str, ...], templates: tuple[str, ...]) -> int:
    texts = sum(len(text) + _TEXT_BYTES for text in (*classnames, *templates))
    return len(classnames) * base.embed_dim * _FLOAT_BYTES + texts


def _build_of(base: BaseModel, classnames: tuple[str, ...], templates: tuple[str, ...], caller: str) -> Build:
    prompts, pool = partial(make_prompts, classnames, templates), partial(pool_prompts, num_templates=len(templates))
    return Build(base, len(classnames) * len(templates), prompts, pool, caller)
