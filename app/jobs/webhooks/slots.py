"""Limits on concurrent messages: in total, per receiver, and per owner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import httpx2

from registry.deliveries import Due

IN_ALL, OF_AN_OWNER, TO_A_HOST, TO_A_URL = 32, 16, 8, 2


class Slots:
    """The messages in progress. A receiver that does not respond blocks its own slots only."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[str, ...]] = {}
        self._counts: Counter[str] = Counter()

    def take(self, due: Iterable[Due]) -> Iterator[str]:
        """Yield the ids of those due messages that get a slot, in order; each slot has to be given back."""
        for each in due:
            if len(self._keys) >= IN_ALL:
                return
            keys = _keys(each)
            if each.id not in self._keys and all(self._counts[key] < _most(key) for key in keys):
                self._keys[each.id] = keys
                self._counts.update(keys)
                yield each.id

    def give_back(self, message_id: str) -> None:
        """Free the slot of a message."""
        self._counts.subtract(self._keys.pop(message_id))
        self._counts += Counter()  # drops those that are 0

    def full(self, kind: str) -> list[str]:
        """Return the URLs (`url`) or origins (`host`) to which nothing more may be sent now."""
        held = [key for key in self._counts if key.startswith(f"{kind} ") and self._counts[key] >= _most(key)]
        return [key.partition(" ")[2] for key in held]

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be sent now."""
        return len(self._keys) >= IN_ALL


def _keys(due: Due) -> tuple[str, ...]:
    url = httpx2.URL(due.url)
    origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
    owner = () if due.owner is None else (f"owner {due.owner}",)
    return (f"url {due.url}", f"host {origin}", *owner)


def _most(key: str) -> int:
    return {"url": TO_A_URL, "host": TO_A_HOST, "owner": OF_AN_OWNER}[key.partition(" ")[0]]
