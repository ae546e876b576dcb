"""The limit on concurrent exports: each is a file of the size of a model until it has been sent."""

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
    """The exports of this process, and their maximum number, of which one owner may have a quarter.

    Attributes:
        turns: Who may mix a version now, to export or verify it; separate from the composer's, so that readers do not
            block the creation of versions.
        conversions: Who may run a process that converts an exported version to another format now.
    """

    def __init__(self, max_exports: int) -> None:
        self.turns = Turns()
        self.conversions = Turns()
        self._max_exports = max_exports
        self._max_of_one = max(1, max_exports // _SHARE_OF_ONE)
        self._owners: Counter[str | None] = Counter()
        self._lock = threading.Lock()

    @property
    def num_open(self) -> int:
        """Number of exports that are being built or sent."""
        return self._owners.total()

    @contextmanager
    def place(self, owner: str | None) -> Iterator[None]:
        """Count an export while the context lasts.

        Args:
            owner: By the name on the key; None: not counted.

        Yields:
            None: While it is built and sent.

        Raises:
            TooManyExportsError: The maximum number of exports is open, in all or of this owner.
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
