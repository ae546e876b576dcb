"""Room on a disk: how much must stay free, and what is refused."""

from pathlib import Path

import pytest

from registry.disk import Disks
from registry.errors import StorageFullError


def test_what_does_not_fit_above_the_floor_is_refused(tmp_path: Path) -> None:
    free = Disks([tmp_path], 0).room().free_bytes
    Disks([tmp_path], 0).require(free // 2)
    with pytest.raises(StorageFullError, match="must stay free"):
        Disks([tmp_path], 0).require(2 * free)
    with pytest.raises(StorageFullError):
        Disks([tmp_path], 2 * free).require()


def test_by_default_a_twentieth_of_a_small_disk_stays_free_and_a_gibibyte_of_a_large_one(tmp_path: Path) -> None:
    room = Disks([tmp_path], None).room()
    assert 0 < room.min_free_bytes <= 1 << 30


def test_the_fullest_disk_counts(tmp_path: Path) -> None:
    room = Disks([tmp_path, Path("/proc")], 0).room()  # which has no bytes
    assert room.free_bytes == 0
    with pytest.raises(StorageFullError):
        Disks([tmp_path, Path("/proc")], 0).require(1)
