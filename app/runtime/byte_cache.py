"""A cache that is bounded by the bytes of what it holds."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class ByteCache(Generic[_Key, _Value]):
    """Values by key, least recently used out first; threads share it.

    Args:
        max_bytes: Total size of the values; a larger one is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._items: OrderedDict[_Key, tuple[_Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: _Key) -> _Value | None:
        """Return the value, which now is the most recently used one; None: there is none."""
        with self._lock:
            if key not in self._items:
                return None
            self._items.move_to_end(key)
            return self._items[key][0]

    def put(self, key: _Key, value: _Value, num_bytes: int) -> None:
        """Keep a value of this size, in place of the key's earlier one."""
        if num_bytes > self._max_bytes:
            return
        with self._lock:
            _, replaced = self._items.pop(key, (None, 0))
            self._items[key] = value, num_bytes
            self._num_bytes += num_bytes - replaced
            while self._num_bytes > self._max_bytes:
                _, (_, freed) = self._items.popitem(last=False)
                self._num_bytes -= freed
