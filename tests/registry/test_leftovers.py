"""What killed processes have left goes at the next start; what a process uses stays."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contract.jobs import JobKind
from registry.database import Database
from registry.jobs import Jobs
from registry.leftovers import JOB_LOG_SECONDS, hold, sweep
from registry.settings import StorageSettings

HOLD = """
import sys, time
from registry.leftovers import hold
from registry.settings import StorageSettings
with hold(StorageSettings(data_dir=sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def settings(tmp_path: Path) -> StorageSettings:
    made = StorageSettings.load(data_dir=tmp_path / "data")
    made.make_directories()
    (made.blob_dir / "incoming").mkdir()
    (made.log_dir / "jobs").mkdir()
    return made


def _leave(folder: Path, name: str, age_seconds: float = 0.0) -> Path:
    path = folder / name
    if name.endswith("/"):
        path.mkdir()
        (path / "part").write_bytes(b"x")
    else:
        path.write_bytes(b"x")
    then = time.time() - age_seconds
    os.utime(path, (then, then))
    return path


def _leavings(settings: StorageSettings) -> list[Path]:
    scratch, incoming = settings.scratch_dir, settings.blob_dir / "incoming"
    return [
        _leave(scratch, "upload-abc"),
        _leave(scratch, "export-abc/"),
        _leave(scratch, "job_1-abc/"),
        _leave(incoming, "0" * 32),
    ]


def test_at_a_start_alone_every_temporary_file_is_a_leftover(settings: StorageSettings) -> None:
    left = _leavings(settings)
    object_file = settings.blob_dir / "sha256"
    object_file.mkdir()
    log = _leave(settings.log_dir / "jobs", "job_1.log", JOB_LOG_SECONDS - 100)
    old_log = _leave(settings.log_dir / "jobs", "job_2.log", JOB_LOG_SECONDS + 100)
    assert sweep(settings) == 5
    assert [path for path in (*left, old_log) if path.exists()] == []
    assert log.exists()
    assert object_file.exists()
    assert sweep(settings) == 0


def test_while_another_process_works_only_what_is_too_old_to_be_in_use_goes(settings: StorageSettings) -> None:
    left = _leavings(settings)
    old = [
        _leave(settings.scratch_dir, "upload-old", 90_000),
        _leave(settings.scratch_dir, "job_old-abc/", 90_000),
        _leave(settings.blob_dir / "incoming", "1" * 32, 90_000),
    ]
    with hold(settings):
        assert sweep(settings) == 2
    assert [path.exists() for path in old] == [False, True, False], "a job may be that long under way"
    assert all(path.exists() for path in left)


def test_files_of_jobs_that_have_ended_go_while_others_run(
    settings: StorageSettings, sqlite_database: Database
) -> None:
    with sqlite_database.write() as session:
        jobs = Jobs(session)
        ended, waiting = (jobs.create(JobKind.PATCH, "pt_1").id for _ in range(2))
        jobs.request_cancel(ended)
    gone = _leave(settings.scratch_dir, f"{ended}-abc/")
    kept = _leave(settings.scratch_dir, f"{waiting}-abc/")
    with hold(settings):
        assert sweep(settings, sqlite_database) == 1
    assert (gone.exists(), kept.exists()) == (False, True)


def test_a_process_that_is_killed_holds_nothing_any_more(settings: StorageSettings) -> None:
    (left, *_) = _leavings(settings)
    command = [sys.executable, "-c", HOLD, str(settings.data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        sweep(settings)
        assert left.exists()
        process.kill()
        process.wait()
    sweep(settings)
    assert not left.exists()


def test_what_lies_in_a_folder_that_others_share_is_left_until_it_is_old(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    settings = StorageSettings.load(data_dir=tmp_path / "data", blob_url=f"file://{shared}")
    settings.make_directories()
    (shared / "incoming").mkdir()
    young = _leave(shared / "incoming", "0" * 32)
    old = _leave(shared / "incoming", "1" * 32, 90_000)
    sweep(settings)
    assert (young.exists(), old.exists()) == (True, False)
