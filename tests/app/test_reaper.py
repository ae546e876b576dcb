"""The reaper rings for jobs that nobody holds, and only then."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.jobs.dispatcher import MemoryDoorbell
from app.jobs.reaper import reap
from app.runtime.periodic import PeriodicThread
from contract.jobs import JobKind
from registry.database import Database
from registry.jobs import Jobs
from tests.support.databases import open_migrated


class UnreachableDoorbell(MemoryDoorbell):
    """A doorbell whose broker is down."""

    def depth(self) -> int | None:
        """Not known."""
        return None


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_migrated(tmp_path / "jobs.db")


def _create(database: Database, *, rung: bool) -> str:
    with database.write() as session:
        jobs = Jobs(session)
        job_id = jobs.create(JobKind.INGEST, "ds_test").id
        if rung:
            jobs.mark_rung(job_id)
    return job_id


def test_a_job_that_nobody_rang_for_is_rung_for(database: Database) -> None:
    doorbell = MemoryDoorbell()
    job_id = _create(database, rung=False)
    assert reap(database, doorbell, quiet_seconds=10) == [job_id]
    assert doorbell.rung == [job_id]


def test_a_job_that_was_just_rung_for_is_left_alone(database: Database) -> None:
    doorbell = MemoryDoorbell()
    _create(database, rung=True)
    assert reap(database, doorbell, quiet_seconds=10) == []


def test_a_ring_that_got_lost_is_repeated_once_it_was_quiet_long_enough(database: Database) -> None:
    doorbell = MemoryDoorbell()
    job_id = _create(database, rung=True)
    assert reap(database, doorbell, quiet_seconds=0) == [job_id]


def test_nothing_is_added_while_there_are_as_many_messages_as_jobs_that_wait(database: Database) -> None:
    doorbell = MemoryDoorbell()
    doorbell.ring("job_before")
    _create(database, rung=False)
    assert reap(database, doorbell, quiet_seconds=0) == []
    assert doorbell.rung == ["job_before"]


def test_one_message_that_nobody_reads_does_not_stop_the_rings_for_other_jobs(database: Database) -> None:
    doorbell = MemoryDoorbell()
    jobs = [_create(database, rung=False) for _ in range(3)]
    doorbell.ring("job_before")
    assert reap(database, doorbell, quiet_seconds=0) == jobs[:2]
    assert reap(database, doorbell, quiet_seconds=0) == []
    assert len(doorbell.rung) == 3


def test_a_broker_that_is_down_is_not_rung_and_the_job_stays_due(database: Database) -> None:
    job_id = _create(database, rung=False)
    assert reap(database, UnreachableDoorbell(), quiet_seconds=10) == []
    assert reap(database, MemoryDoorbell(), quiet_seconds=10) == [job_id]


def test_a_job_that_somebody_holds_is_not_rung_for_until_the_lease_runs_out(database: Database) -> None:
    job_id = _create(database, rung=False)
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    with database.write() as session:
        Jobs(session).lease(job_id, "a worker", seconds=60)
    assert reap(database, MemoryDoorbell(), quiet_seconds=0) == []
    with database.write() as session:
        from registry.tables import JobRow

        row = session.get(JobRow, job_id)
        assert row is not None
        row.lease_expires_at = long_ago
    assert reap(database, MemoryDoorbell(), quiet_seconds=0) == [job_id]


def test_a_periodic_action_survives_what_it_raises() -> None:
    import threading

    calls = []
    enough = threading.Event()

    def act() -> None:
        calls.append(1)
        if len(calls) == 3:
            enough.set()
        raise ValueError("a bug")

    thread = PeriodicThread("a test", 0.001, act)
    thread.start()
    assert enough.wait(10)
    thread.stop()
    assert len(calls) >= 3
