"""A cache of stored interpolants and of the names of their images, so that a slider along alpha is answered quickly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from torch import Tensor

from app.http.dependencies import provided
from app.runtime.byte_cache import ByteCache
from paint_core.alpha import FeatureCurve
from paint_core.alpha.changes import Answers, answers
from registry.blobs import BlobStore
from registry.shards import read_names

MAX_BYTES = 512 << 20
MAX_STORED_BYTES = MAX_BYTES // 2
"""Of a blob that a request may load: stored as float16, it takes twice as much in memory, which the cache can hold."""

_NAME_BYTES = 60
"""What a string of Python takes in addition to its characters, about."""


@dataclass(frozen=True, eq=False)
class StoredCurve:
    """An interpolant.

    Attributes:
        features: The interpolant.
        at_0: Task name to the answers at alpha 0, with which most requests compare.
    """

    features: FeatureCurve
    at_0: Mapping[str, Answers]

    @classmethod
    def of(cls, features: FeatureCurve) -> StoredCurve:
        """Return the interpolant with its answers at alpha 0."""
        return cls(features, {name: answers(features, name, features.nodes[0]) for name in features.labels})

    @property
    def num_bytes(self) -> int:
        """Size in memory."""
        answered = sum(each.predicted.nbytes + each.margins.nbytes for each in self.at_0.values())
        return answered + sum(stack.nbytes for stack in self.features.features.values())

    @property
    def correct_at_0(self) -> dict[str, Tensor]:
        """Task name to bool [N], the images that alpha 0 classifies correctly."""
        return {name: each.predicted == self.features.labels[name] for name, each in self.at_0.items()}


class Interpolants:
    """Interpolants and names of images by the hashes of their blobs, least recently used out first.

    One thread loads an interpolant at a time, so that requests for the same one load it once and memory stays bounded.

    Args:
        blobs: Where they are stored.
        max_bytes: Size of the cache.
        max_stored_bytes: Of an interpolant; larger ones are not loaded.
    """

    def __init__(self, blobs: BlobStore, max_bytes: int = MAX_BYTES, max_stored_bytes: int = MAX_STORED_BYTES) -> None:
        self._blobs = blobs
        self._max_stored_bytes = max_stored_bytes
        self._cached: ByteCache[tuple[str, str], Any] = ByteCache(max_bytes)
        self._loading = {kind: threading.Lock() for kind in ("curve", "names")}

    def curve(self, sha256: str) -> StoredCurve | None:
        """Return the interpolant in a blob; None if it is too large to be loaded.

        Raises:
            WeightsMismatchError: The blob is not an interpolant.
        """
        key = ("curve", sha256)
        if self._cached.get(key) is None and self._is_too_large(sha256):
            return None
        found: StoredCurve = self._get(key, lambda: self._load_curve(sha256))
        return found

    def names(self, sha256: str) -> tuple[str, ...]:
        """Return the names of a split's images, in their order; the blob is that of the split."""
        found: tuple[str, ...] = self._get(("names", sha256), lambda: self._load_names(sha256))
        return found

    def _is_too_large(self, sha256: str) -> bool:
        info = self._blobs.stat(sha256)
        return info is not None and info.num_bytes > self._max_stored_bytes

    def _load_curve(self, sha256: str) -> tuple[StoredCurve, int]:
        features = FeatureCurve.from_bytes(self._blobs.read(sha256))
        stored = StoredCurve.of(features)
        return stored, stored.num_bytes

    def _load_names(self, sha256: str) -> tuple[tuple[str, ...], int]:
        names = tuple(read_names(self._blobs.fetch(sha256)))
        return names, sum(_NAME_BYTES + len(name) for name in names)

    def _get(self, key: tuple[str, str], load: Callable[[], tuple[Any, int]]) -> Any:
        value = self._cached.get(key)
        if value is None:
            with self._loading[key[0]]:
                value = self._cached.get(key)  # the request before may have loaded it
                if value is None:
                    value, num_bytes = load()
                    self._cached.put(key, value, num_bytes)
        return value


InterpolantsDep = Annotated[Interpolants, provided(Interpolants)]
