"""Zero-shot heads, each built once: a bounded cache in front of the text tower."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from torch import Tensor

from app.serving.cores import compute_apart
from paint_core.heads import build_head, encode_texts
from paint_core.models import BaseModel

_FLOAT_BYTES = 4
_TEXT_BYTES = 50
"""What a string of Python takes beside its characters, about."""


class _Key:
    """What names a head. Its hash is taken once: that of a thousand labels takes longer than all the rest of a look."""

    __slots__ = ("_hash", "_parts")

    def __init__(self, fingerprint: str, classnames: tuple[str, ...], templates: tuple[str, ...]) -> None:
        self._parts = (fingerprint, classnames, templates)
        self._hash = hash(self._parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._hash == other._hash and self._parts == other._parts


@dataclass(frozen=True, eq=False)
class _Entry:
    head: Future[Tensor]
    num_bytes: int


class HeadCache:
    """Heads by (base, classnames, templates), least recently used out first.

    The key names the base and not the version: patches leave the text tower alone, so all versions of a base share
    their heads, and an activation finds them warm. Callers that ask for the same head at once wait for one build. One
    thread builds, so that many label sets do not crowd out the images.

    Args:
        max_bytes: What heads and their labels may take; the newest is kept whatever it takes.
        num_cores: What building one may take.
    """

    def __init__(self, max_bytes: int = 256 << 20, num_cores: int = 1) -> None:
        self._max_bytes = max_bytes
        self._num_cores = num_cores
        self._num_bytes = 0
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="paintbox-text")

    def get(self, base: BaseModel, classnames: tuple[str, ...], templates: tuple[str, ...]) -> Future[Tensor]:
        """Return the head [C, D] on the CPU, once it is built. The future is shared: do not cancel it."""
        key = _Key(base.fingerprint, classnames, templates)
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
                return entry.head
            head = self._thread.submit(compute_apart, self._num_cores, _build, base, classnames, templates)
            self._keep(key, _Entry(head, _count_bytes(base, classnames, templates)))
        head.add_done_callback(lambda done: self._forget_failed(key, done))
        return head

    def embed(self, base: BaseModel, texts: Sequence[str]) -> Future[Tensor]:
        """Return the unit embeddings [B, D] of texts on the CPU, once they are there. Nothing of it is kept."""
        return self._thread.submit(compute_apart, self._num_cores, _embed, base, tuple(texts))

    @property
    def num_bytes(self) -> int:
        """What the heads and their labels take, about."""
        return self._num_bytes

    def __len__(self) -> int:
        """Return how many heads are kept."""
        return len(self._entries)

    def close(self) -> None:
        """Build no more."""
        self._thread.shutdown(cancel_futures=True)

    def _keep(self, key: _Key, entry: _Entry) -> None:
        self._entries[key] = entry
        self._num_bytes += entry.num_bytes
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


def _count_bytes(base: BaseModel, classnames: tuple[str, ...], templates: tuple[str, ...]) -> int:
    texts = sum(len(text) + _TEXT_BYTES for text in (*classnames, *templates))
    return len(classnames) * base.embed_dim * _FLOAT_BYTES + texts


def _build(base: BaseModel, classnames: tuple[str, ...], templates: tuple[str, ...]) -> Tensor:
    return build_head(base, classnames, templates).float().cpu()


def _embed(base: BaseModel, texts: Sequence[str]) -> Tensor:
    return encode_texts(base, texts).cpu()
