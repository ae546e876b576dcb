"""Whoever works on a job goes, or loses it: its trainer ends, and the job is whole; with real trainer processes."""

import os
import subprocess
import sys
import threading
import time

import psutil
import pytest
from sqlalchemy import update

from contract.jobs import JobStatus
from registry.jobs import Jobs
from registry.tables import JobRow
from tests.chaos.conftest import Bench
from tests.chaos.test_cancel import wait_for
from worker.process import environment_of

_FOR_EVER = 100_000
_SUPERVISE = """
import sys
from tests.chaos.stub import TRAINER
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor

Supervisor(WorkerSettings.load(), trainer=TRAINER).run(sys.argv[1])
"""


def has_checkpoint(bench: Bench, job_id: str) -> bool:
    return ((bench.job(job_id).checkpoint or {}).get("step") or 0) >= 1


def test_a_worker_that_shuts_down_gives_the_job_back_with_its_checkpoint_and_its_attempts(bench: Bench) -> None:
    patch = bench.submit("given back", iterations=_FOR_EVER)
    stop = threading.Event()
    working = threading.Thread(target=lambda: bench.supervisor(stop.is_set).run(patch.job_id))
    working.start()
    wait_for(lambda: has_checkpoint(bench, patch.job_id))
    stop.set()
    working.join(timeout=20)
    assert not working.is_alive()
    assert bench.forks.running(patch.job_id) == []
    job = bench.job(patch.job_id)
    assert (job.status, job.attempt) == ("queued", 0)
    assert (job.checkpoint or {})["step"] >= 1
    with bench.database.write() as session:
        next_one = Jobs(session).lease(patch.job_id, "another worker")
        assert next_one is not None
        Jobs(session).cancel(next_one)


def test_a_supervisor_whose_lease_was_taken_ends_its_trainer_and_writes_nothing(bench: Bench) -> None:
    patch = bench.submit("taken", iterations=_FOR_EVER)
    working = bench.work_on(patch.job_id)
    wait_for(lambda: has_checkpoint(bench, patch.job_id))
    with bench.database.write() as session:  # as if it had expired and another worker had leased it
        taken = {"lease_token": JobRow.lease_token + 1, "lease_owner": "another"}
        session.execute(update(JobRow).where(JobRow.id == patch.job_id).values(taken))
    working.join(timeout=30)
    assert not working.is_alive()
    job = bench.job(patch.job_id)
    assert (job.status, job.lease_owner) == (JobStatus.RUNNING, "another")
    assert bench.forks.running(patch.job_id) == []
    assert bench.num_versions(patch.job_id) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the trainer in /proc")
def test_a_killed_supervisor_leaves_no_trainer_behind(bench: Bench) -> None:
    patch = bench.submit("orphaned", iterations=_FOR_EVER)
    environment = os.environ | environment_of(bench.settings)
    supervisor = subprocess.Popen([sys.executable, "-c", _SUPERVISE, patch.job_id], env=environment)
    try:
        wait_for(lambda: has_checkpoint(bench, patch.job_id), 60)
        (trainer,) = psutil.Process(supervisor.pid).children()
    finally:
        supervisor.kill()
        supervisor.wait()
    deadline = time.monotonic() + 20
    while trainer.is_running() and trainer.status() != "zombie":
        assert time.monotonic() < deadline
        time.sleep(0.05)
