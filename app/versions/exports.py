"""How many exports there may be at once: each is a file of the size of a model until it has been sent."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from app.http.dependencies import provided
from app.http.errors import TooManyExportsError
from app.versions.fair_lock import Turns

_SHARE_OF_ONE = 4


class Exports:
    """The exports of this process.

    Args:
        max_exports: Most that may be made or sent at once; one owner may have a quarter of them.

    Attributes:
        turns: Who mixes a version now, to export or to verify it. They are apart from those of the composer, so that
            whoever only reads keeps nobody from making a version.
    """

    def __init__(self, max_exports: int) -> None:
        self.turns = Turns()
        self._max_exports = max_exports
        self._max_of_one = max(1, max_exports // _SHARE_OF_ONE)
        self._owners: Counter[str | None] = Counter()
        self._lock = threading.Lock()

    @property
    def num_open(self) -> int:
        """How many are made or sent."""
        return self._owners.total()

    @contextmanager
    def place(self, owner: str | None) -> Iterator[None]:
        """Count an export while the context lasts.

        Args:
            owner: Whose it is; None: no key is needed, and nobody is counted.

        Yields:
            None: While it is made and sent.

        Raises:
            TooManyExportsError: There are as many as there may be, in all or of this owner.
        """
        with self._lock:
            num_open = self._owners.total()
            if num_open >= self._max_exports or (owner is not None and self._owners[owner] >= self._max_of_one):
                raise TooManyExportsError(num_open)
            self._owners[owner] += 1
        try:
            yield
        finally:
            with self._lock:
                self._owners[owner] -= 1
                if not self._owners[owner]:
                    del self._owners[owner]


ExportsDep = Annotated[Exports, provided(Exports)]
