"""What is in a data directory is readable by its owner only, whoever made it and how."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from registry.errors import ConfigurationError
from registry.private_files import close_to_others
from registry.settings import StorageSettings

MAKE = """
import sys
from registry.private_files import make_files_private
make_files_private()
open(sys.argv[1], "w").close()
"""


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_directory_that_was_readable_is_closed_with_everything_in_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("uploads", "logs", "cache", "blobs"):
        (data / name).mkdir(parents=True)
        (data / name).chmod(0o755)
    (data / "paintbox.db").touch(0o644)
    data.chmod(0o755)
    StorageSettings.load(data_dir=data).make_directories()
    assert {path.name: mode_of(path) & 0o077 for path in (data, *data.iterdir()) if mode_of(path) & 0o077} == {}


def test_a_directory_that_holds_other_things_too_keeps_its_mode_but_ours_are_closed(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos").chmod(0o755)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs").chmod(0o755)
    tmp_path.chmod(0o755)
    StorageSettings.load(data_dir=tmp_path).make_directories()
    assert [mode_of(tmp_path / name) for name in (".", "photos", "logs")] == [0o755, 0o755, 0o700]


def test_a_process_makes_files_that_only_its_owner_can_read(tmp_path: Path) -> None:
    target = tmp_path / "made"
    subprocess.run([sys.executable, "-c", MAKE, str(target)], check=True)
    assert mode_of(target) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's folder")
def test_what_belongs_to_somebody_else_and_all_can_read_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "uploads").mkdir(parents=True)
    (data / "uploads").chmod(0o755)
    for path in (tmp_path, *list(tmp_path.parents)[:3]):  # one folder more where tests run in several processes
        if path != Path(tempfile.gettempdir()):
            path.chmod(0o755)
    data.chmod(0o777)
    os.seteuid(65_534)
    try:
        with pytest.raises(ConfigurationError, match="chmod -R go-rwx"):
            close_to_others(data)
    finally:
        os.seteuid(0)
