"""A trainer that waits for its job, and what happens when it cannot take it."""

import json
import os
import sys
from pathlib import Path

import pytest

from contract.jobs import JobKind, JobStatus
from registry.tables import DatasetRow
from tests.worker.conftest import Installation
from worker.process import TRAINER_COMMAND, trainer_environment
from worker.settings import WorkerSettings
from worker.standby import Standby
from worker.supervisor import Supervisor

# Waits as a trainer does, and tells what it was given.
WAITING = (sys.executable, "-c", "import sys; print('waited', sys.stdin.readline(), flush=True)")
FRESH = (sys.executable, "-c", "import sys; print('fresh', *sys.argv[1:], flush=True)", "job_1", "7")


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    return WorkerSettings.load(data_dir=tmp_path, standby_trainer=True)


def _launch(standby: Standby, settings: WorkerSettings, folder: Path) -> str:
    with (folder / "log").open("ab") as log:
        process = standby.launch(FRESH, trainer_environment(settings), log)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        said = process.stdout.read().decode()
    assert process.wait() == 0
    return said


def test_the_trainer_that_waits_gets_the_job_and_the_place_of_its_log(settings: WorkerSettings, tmp_path: Path) -> None:
    standby = Standby(WAITING)
    standby.prepare(settings)
    word, line = _launch(standby, settings, tmp_path).split(maxsplit=1)
    assert word == "waited"
    assert json.loads(line) == {"job_id": "job_1", "token": 7, "output": str(tmp_path / "log")}
    assert _launch(standby, settings, tmp_path).startswith("fresh"), "it does one job"


def test_a_trainer_that_has_died_or_has_other_settings_is_replaced_by_a_fresh_one(
    settings: WorkerSettings, tmp_path: Path
) -> None:
    dead = Standby((sys.executable, "-c", "import sys; sys.stdin.close()"))
    dead.prepare(settings)
    assert dead._waiting is not None
    dead._waiting.wait()
    assert _launch(dead, settings, tmp_path) == "fresh job_1 7\n"
    other = Standby(WAITING)
    other.prepare(settings.model_copy(update={"max_image_pixels": 1}))
    assert _launch(other, settings, tmp_path) == "fresh job_1 7\n"


def test_nothing_waits_where_nobody_wants_it(settings: WorkerSettings, tmp_path: Path) -> None:
    for unwanted in ({"standby_trainer": False}, {"worker_kinds": (JobKind.INGEST,)}):
        standby = Standby(WAITING)
        standby.prepare(settings.model_copy(update=unwanted))
        assert _launch(standby, settings, tmp_path).startswith("fresh")


def test_only_one_waits_and_it_ends_with_its_worker(settings: WorkerSettings) -> None:
    standby = Standby((sys.executable, "-m", "worker.trainer"))
    standby.prepare(settings)
    waiting = standby._waiting
    standby.prepare(settings)
    assert waiting is not None
    assert standby._waiting is waiting
    assert waiting.stdin is not None
    assert waiting.stdout is not None
    with waiting.stdout:
        waiting.stdin.close()  # as the system does when the worker is killed
        assert waiting.wait(60) == 70


def test_a_patch_is_trained_by_the_process_that_waited_and_ingest_is_not(
    installation: Installation, digits: DatasetRow, others: DatasetRow
) -> None:
    """With a real trainer: its results, its log, and the next one on standby."""
    standby = Standby(TRAINER_COMMAND)
    settings = installation.settings.model_copy(update={"standby_trainer": True})
    standby.prepare(settings)
    waiting = standby._waiting
    assert waiting is not None
    supervisor = Supervisor(settings, standby=standby, launch=installation.launch)
    patch = installation.submit_patch(method="instant", name="digits", tasks=[digits.id], supported=[others.id])
    supervisor.run(patch.job_id)
    assert installation.job(patch.job_id).status == JobStatus.SUCCEEDED
    assert waiting.poll() == 0, "it has exited"
    assert standby._waiting is not None
    assert standby._waiting.pid != waiting.pid
    assert (settings.log_dir / "jobs" / f"{patch.job_id}.log").exists()
    standby.close()
    assert not os.path.exists(f"/proc/{waiting.pid}")
