"""A parallel patch whose fine-tuning runs are jobs of their own: the same bits, with one worker or several."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from registry.jobs import Jobs
from registry.tables import DatasetRow, JobEventRow, JobRow, PatchRow
from registry.versions import Versions
from tests.builders import digit_members, write_zip
from tests.worker.conftest import Installation
from tests.worker.runs import FINETUNE, Recorder, begin
from worker.steps.patch import patch


@pytest.fixture(scope="module")
def more_digits(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> DatasetRow:
    """Digits five to seven with a training split, ingested."""
    members = digit_members(range(5, 8), train=16, val=4, test=4)
    return installation.ingest_here(write_zip(tmp_path_factory.mktemp("archives") / "more.zip", members))


@pytest.fixture(scope="module")
def request_(digits: DatasetRow, more_digits: DatasetRow, kept: DatasetRow) -> dict[str, Any]:
    """What every patch here asks for."""
    return {
        "method": "parallel",
        "tasks": [digits.id, more_digits.id],
        "supported": [kept.id],
        "anchors": {"supported": True, "weight": 5, "batch_size": 4},
        "alpha": {"rule": "combined", "strategy": "grid", "grid_step": 0.5},
    }


@pytest.fixture(scope="module")
def in_one_process(installation: Installation, request_: dict[str, Any]) -> PatchRow:
    """The patch as one job alone makes it."""
    row = installation.submit_patch(name="alone", finetune=FINETUNE, **request_)
    with installation.database.write() as session:
        parts = [part.id for part in Jobs(session).children(row.job_id)]
        session.execute(delete(JobEventRow).where(JobEventRow.job_id.in_(parts)))
        session.execute(delete(JobRow).where(JobRow.id.in_(parts)))
    patch(begin(installation, row, Recorder(), {}))
    return installation.patch(row.id)


def _parts(installation: Installation, row: PatchRow) -> list[JobRow]:
    with installation.database.read() as session:
        return list(Jobs(session).children(row.job_id))


def _require_same(installation: Installation, row: PatchRow, other: PatchRow) -> None:
    first, second = ({**(each.report or {})} for each in (row, other))
    for measured in ("terms", "curve", "tasks", "final_losses", "stages", "notes"):
        assert first[measured] == second[measured], measured
    # A sum over a file's tensors may round otherwise than one over those in memory, which are aligned otherwise.
    assert first["update"]["relative_norm"] == pytest.approx(second["update"]["relative_norm"], rel=1e-9)
    with installation.database.read() as session:
        versions = [Versions(session).get(report["version_id"]) for report in (first, second)]
    assert versions[0].weights_fingerprint == versions[1].weights_fingerprint
    assert versions[0].probe == versions[1].probe


def test_two_workers_do_the_parts_at_once_and_join_them_once_to_the_same_bits(
    installation: Installation, request_: dict[str, Any], in_one_process: PatchRow
) -> None:
    row = installation.submit_patch(name="parts", finetune=FINETUNE, **request_)
    parts = _parts(installation, row)
    assert [(part.kind, part.part, part.parent_id) for part in parts] == [
        ("finetune", dataset, row.job_id) for dataset in request_["tasks"]
    ]
    installation.supervisor.run(row.job_id)  # a message that comes too early changes nothing
    assert installation.job(row.job_id).attempt == 0
    workers = [threading.Thread(target=installation.supervisor.answer) for _ in parts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [installation.job(job_id).status for job_id in (row.job_id, *(part.id for part in parts))] == [
        "succeeded"
    ] * 3
    started = [event for event in _events(installation, row.job_id) if event.message == "started"]
    assert len(started) == 1
    assert installation.job(row.job_id).attempt == 1
    _require_same(installation, installation.patch(row.id), in_one_process)
    trained = [event.data for event in _events(installation, row.job_id) if event.message == "fine-tuning"]
    assert trained == []  # the join trains nothing
    assert (installation.patch(row.id).report or {})["timings_seconds"]["finetune"] > 0


def _events(installation: Installation, job_id: str) -> list[JobEventRow]:
    with installation.database.read() as session:
        return list(Jobs(session).events(job_id))


def test_a_part_that_cannot_be_trained_fails_the_patch_with_its_cause(
    installation: Installation, request_: dict[str, Any], tmp_path: Path
) -> None:
    broken = installation.ingest_here(
        write_zip(tmp_path / "broken.zip", digit_members(range(8, 10), train=9, val=3, test=3))
    )
    installation.blobs.delete((broken.shards or {})["train"]["sha256"])
    request = {**request_, "tasks": [broken.id, request_["tasks"][0]], "anchors": None}
    row = installation.submit_patch(name="broken", finetune=FINETUNE, **request)
    first, second = _parts(installation, row)
    installation.supervisor.run(first.id)
    assert [installation.job(part.id).status for part in (first, second)] == ["failed", "cancelled"]
    parent = installation.job(row.job_id)
    assert (parent.status, parent.error_code) == ("failed", "blob_missing")
    assert broken.id in (parent.error_detail or "")


def test_cancelling_the_patch_stops_the_part_that_is_being_trained(
    installation: Installation, request_: dict[str, Any]
) -> None:
    row = installation.submit_patch(name="cancelled", finetune={**FINETUNE, "iterations": 100_000}, **request_)
    first, second = _parts(installation, row)
    working = threading.Thread(target=installation.supervisor.run, args=(first.id,))
    working.start()
    deadline = time.monotonic() + 60
    while installation.job(first.id).stage != "finetune":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with installation.database.write() as session:
        Jobs(session).request_cancel(row.job_id)
    working.join(3)
    assert not working.is_alive()
    assert {installation.job(job_id).status for job_id in (row.job_id, first.id, second.id)} == {"cancelled"}
