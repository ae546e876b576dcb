"""Checks of free disk space and of the owner's quota."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from app.http.dependencies import provided
from registry.database import Database
from registry.disk import Disks, Room
from registry.errors import StorageQuotaError
from registry.usage import Usage

_FORM_BYTES = 1 << 20
"""Size of the form fields in a body, which are not stored."""


class Storage:
    """Checks free space and quotas before anything is written.

    Args:
        database: Knows what owners store.
        announced_bytes: Returns what the unfinished uploads of an owner will take, which counts too.
        disks: Where bytes are written.
        max_stored_bytes: Maximum for one owner.
    """

    def __init__(
        self, database: Database, announced_bytes: Callable[[str], int], disks: Disks, max_stored_bytes: int
    ) -> None:
        self._database = database
        self._announced_bytes = announced_bytes
        self._disks = disks
        self._max_stored_bytes = max_stored_bytes

    def room(self) -> Room:
        """Return the room on the disk that has the least to spare."""
        return self._disks.room()

    def require_room(self, num_bytes: int = 0) -> None:
        """Raise `StorageFullError`, which states the free space, if the disk has no room for the bytes."""
        self._disks.require(num_bytes)

    def require_quota(self, owner: str | None, num_bytes: int) -> None:
        """Reject storing more for an owner who stores too much; concurrent requests may both be accepted.

        Args:
            owner: By the name on the key; None: not counted.
            num_bytes: About to be stored, as far as known.

        Raises:
            StorageQuotaError: They store too much.
        """
        if owner is None:
            return
        with self._database.read() as session:
            stored = Usage(session).stored_bytes(owner)
        stored += self._announced_bytes(owner)
        if stored + max(0, num_bytes - _FORM_BYTES) > self._max_stored_bytes:
            raise StorageQuotaError(owner, stored, num_bytes, self._max_stored_bytes)


StorageDep = Annotated[Storage, provided(Storage)]
