"""Room on the disks that an installation writes to."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.errors import StorageFullError

_DEFAULT_FLOOR_BYTES = 1 << 30
_DEFAULT_FLOOR_SHARE = 0.05


@dataclass(frozen=True)
class Room:
    """Free space on a disk.

    Attributes:
        free_bytes: Space that this process may still use.
        min_free_bytes: Space that must stay free; below it nothing is written.
    """

    free_bytes: int
    min_free_bytes: int

    @property
    def spare_bytes(self) -> int:
        """How many bytes may be added; negative: too few are free."""
        return self.free_bytes - self.min_free_bytes


class Disks:
    """The disks of some folders.

    Args:
        folders: Where data is written; several may be on one disk.
        min_free_bytes: Space that must stay free on each; None: 1 GiB, or 5 % of a small disk.
    """

    def __init__(self, folders: Sequence[Path], min_free_bytes: int | None) -> None:
        self._folders = tuple(folders)
        self._min_free_bytes = min_free_bytes

    def room(self) -> Room:
        """Return the room on the disk that has the least to spare."""
        return min(map(self._measure, self._folders), key=lambda room: room.spare_bytes)

    def require(self, num_bytes: int = 0) -> None:
        """Raise an error if writing this many bytes would leave too little space.

        Raises:
            StorageFullError: They do not fit.
        """
        room = self.room()
        if room.spare_bytes < num_bytes:
            needed = f" for {num_bytes:,} bytes" if room.spare_bytes >= 0 else ""
            floor = f"{room.min_free_bytes:,} must stay free"
            raise StorageFullError(f"the disk has {room.free_bytes:,} bytes free{needed}, of which {floor}")

    def _measure(self, folder: Path) -> Room:
        usage = shutil.disk_usage(folder)
        if self._min_free_bytes is None:
            floor = min(_DEFAULT_FLOOR_BYTES, int(_DEFAULT_FLOOR_SHARE * usage.total))
        else:
            floor = self._min_free_bytes
        return Room(usage.free, floor)
