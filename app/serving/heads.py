"""Zero-shot heads, each built once: a bounded cache in front of the text tower."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from paint_core.heads import build_head, encode_texts
from paint_core.models import BaseModel

_Key = tuple[str, tuple[str, ...], tuple[str, ...]]


class HeadCache:
    """Heads by (base, classnames, templates), least recently used out first.

    The key names the base and not the version: patches leave the text tower alone, so all versions of a base share
    their heads, and an activation finds them warm. Callers that ask for the same head at once wait for one build. One
    thread builds, so that many label sets do not crowd out the images.

    Args:
        max_heads: How many heads are kept.
    """

    def __init__(self, max_heads: int = 64) -> None:
        self._max_heads = max_heads
        self._heads: OrderedDict[_Key, Future[Tensor]] = OrderedDict()
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="paintbox-text")

    def get(self, base: BaseModel, classnames: tuple[str, ...], templates: tuple[str, ...]) -> Future[Tensor]:
        """Return the head [C, D] on the CPU, once it is built. The future is shared: do not cancel it."""
        key = (base.fingerprint, classnames, templates)
        with self._lock:
            future = self._heads.get(key)
            if future is None:
                future = self._heads[key] = self._thread.submit(_build, base, classnames, templates)
                while len(self._heads) > self._max_heads:
                    self._heads.popitem(last=False)
            self._heads.move_to_end(key)
        future.add_done_callback(lambda done: self._forget_failed(key, done))
        return future

    def embed(self, base: BaseModel, texts: Sequence[str]) -> Future[Tensor]:
        """Return the unit embeddings [B, D] of texts on the CPU, once they are there. Nothing of it is kept."""
        return self._thread.submit(_embed, base, tuple(texts))

    def __len__(self) -> int:
        """Return how many heads are kept."""
        return len(self._heads)

    def close(self) -> None:
        """Build no more."""
        self._thread.shutdown(cancel_futures=True)

    def _forget_failed(self, key: _Key, future: Future[Tensor]) -> None:
        if future.cancelled() or future.exception() is not None:
            with self._lock:
                if self._heads.get(key) is future:
                    del self._heads[key]


def _build(base: BaseModel, classnames: tuple[str, ...], templates: tuple[str, ...]) -> Tensor:
    return build_head(base, classnames, templates).float().cpu()


def _embed(base: BaseModel, texts: Sequence[str]) -> Tensor:
    return encode_texts(base, texts).cpu()
