"""The supervisor with trainer processes: what happens to a job whatever happens to its trainer."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeVar

import pytest
from sqlalchemy import select

from paint_core.models import BaseModel
from registry.tables import DatasetRow, JobEventRow, PatchRow, VersionRow
from registry.versions import Versions
from tests.builders import digit_members, write_zip
from tests.worker.conftest import Installation
from worker.process import ChildProcess, launch_fresh
from worker.supervisor import Supervisor

Found = TypeVar("Found")
FINETUNE = {"iterations": 16, "batch_size": 16, "learning_rate": 1e-4}


@pytest.fixture(scope="module")
def base(starter: BaseModel) -> BaseModel:
    """The model that everybody starts with."""
    return starter


def _submit(installation: Installation, digits: DatasetRow, others: DatasetRow) -> PatchRow:
    return installation.submit_patch(
        name="digits",
        tasks=[digits.id],
        supported=[others.id],
        finetune=FINETUNE,
        alpha={"rule": "combined", "strategy": "grid", "grid_step": 0.25},
    )


def _events(installation: Installation, job_id: str) -> list[JobEventRow]:
    with installation.database.read() as session:
        return list(session.scalars(select(JobEventRow).where(JobEventRow.job_id == job_id).order_by(JobEventRow.id)))


def _versions(installation: Installation, job_id: str) -> list[VersionRow]:
    with installation.database.read() as session:
        return [version for version in Versions(session).newest() if version.job_id == job_id]


def _in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _wait_for(look: Callable[[], Found | None], seconds: float = 60) -> Found:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def _checkpointed_step(installation: Installation, job_id: str, at_least: int) -> int | None:
    step = (installation.job(job_id).checkpoint or {}).get("step") or 0
    return step if step >= at_least else None


@pytest.fixture(scope="module")
def undisturbed(installation: Installation, digits: DatasetRow, others: DatasetRow) -> PatchRow:
    """A patch whose trainer nobody touched: a fresh process, as a worker starts it."""
    patch = _submit(installation, digits, others)
    Supervisor(installation.settings).run(patch.job_id)
    return installation.patch(patch.id)


def test_ingest_reports_a_text_file_named_png_and_keeps_the_rest(installation: Installation, tmp_path: Path) -> None:
    members = digit_members(range(2), train=6, val=2, test=2) | {"train/zero/notes.png": b"this is text"}
    row = installation.ingest(write_zip(tmp_path / "digits.zip", members))
    assert row.state == "ready"
    assert row.classnames == ["one", "zero"]
    assert row.counts == {split: {"one": n, "zero": n} for split, n in (("train", 6), ("validation", 2), ("test", 2))}
    assert [entry["file"] for entry in row.rejected or []] == ["train/zero/notes.png"]
    assert "readable" in (row.rejected or [])[0]["reason"]


def test_a_patch_yields_one_version_with_a_full_report(installation: Installation, undisturbed: PatchRow) -> None:
    patch, job = undisturbed, installation.job(undisturbed.job_id)
    assert (job.status, job.progress, job.error_code) == ("succeeded", 1.0, None)
    (version,) = _versions(installation, job.id)
    report = patch.report
    assert report is not None
    assert patch.version_id == version.id == report["version_id"]
    assert [point["alpha"] for point in report["curve"]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert report["alpha"] in (0.0, 0.25, 0.5, 0.75, 1.0)
    best = max(point["combined"] for point in report["curve"])
    assert next(p for p in report["curve"] if p["alpha"] == report["alpha"])["combined"] == best
    assert {task["role"] for task in report["tasks"]} == {"patching", "supported"}
    assert all(task["test"]["patched"]["total"] == 20 for task in report["tasks"])
    assert set(report["timings_seconds"]) >= {"prepare", "finetune", "select", "evaluate"}


def test_a_trainer_killed_in_mid_finetune_resumes_to_the_same_bits_and_one_version(
    installation: Installation, digits: DatasetRow, others: DatasetRow, undisturbed: PatchRow
) -> None:
    disturbed = _submit(installation, digits, others)
    trainers: list[ChildProcess] = []

    def launch(command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> ChildProcess:
        trainers.append(installation.launch(command, environment, log))
        return trainers[-1]

    settings = installation.settings.model_copy(update={"checkpoint_seconds": 0.0})
    supervisor = Supervisor(settings, launch=launch)
    supervising = _in_background(lambda: supervisor.run(disturbed.job_id))
    step = _wait_for(lambda: _checkpointed_step(installation, disturbed.job_id, at_least=3))
    os.kill(trainers[0].pid, signal.SIGKILL)
    supervising.join(timeout=120)

    job = installation.job(disturbed.job_id)
    assert (job.status, job.attempt) == ("succeeded", 2)
    resumed = [event.data for event in _events(installation, job.id) if event.message == "resumed"]
    assert resumed
    assert step <= (resumed[0] or {})["step"] < FINETUNE["iterations"]
    reports = [installation.patch(patch.id).report or {} for patch in (undisturbed, disturbed)]
    assert reports[0]["terms"] == reports[1]["terms"]  # the task vector has the same bits
    assert reports[0]["curve"] == reports[1]["curve"]
    assert len(_versions(installation, disturbed.job_id)) == 1


def test_a_job_whose_trainer_always_dies_fails_after_three_attempts_with_the_cause(
    installation: Installation, tmp_path: Path
) -> None:
    row = installation.submit_dataset(write_zip(tmp_path / "digits.zip", digit_members(range(2), train=7)))

    def launch(command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> ChildProcess:
        trainer = launch_fresh(command, environment, log)
        trainer.kill()
        return trainer

    Supervisor(installation.settings, launch=launch).run(row.job_id)
    job = installation.job(row.job_id)
    assert (job.status, job.attempt, job.error_code) == ("failed", 3, "attempts_exhausted")
    assert "signal 9" in (job.error_detail or "")
    assert installation.dataset(row.id).state == "failed"
