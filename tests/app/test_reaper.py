"""The reaper dispatches jobs that no worker holds, and no others."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.jobs.dispatcher import MemoryDispatcher
from app.jobs.reaper import reap
from app.runtime.periodic import PeriodicThread
from contract.jobs import JobKind
from registry.database import Database
from registry.jobs import Jobs
from tests.support.databases import open_migrated


class UnreachableDispatcher(MemoryDispatcher):
    """A dispatcher whose broker is down."""

    def depth(self) -> int | None:
        """Not known."""
        return None


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_migrated(tmp_path / "jobs.db")


def _create(database: Database, *, dispatched: bool) -> str:
    with database.write() as session:
        jobs = Jobs(session)
        job_id = jobs.create(JobKind.INGEST, "ds_test").id
        if dispatched:
            jobs.mark_dispatched(job_id)
    return job_id


def test_a_job_that_was_never_dispatched_is_dispatched(database: Database) -> None:
    dispatcher = MemoryDispatcher()
    job_id = _create(database, dispatched=False)
    assert reap(database, dispatcher, redispatch_after_seconds=10) == [job_id]
    assert dispatcher.dispatched == [job_id]


def test_a_job_that_was_just_dispatched_is_left_alone(database: Database) -> None:
    dispatcher = MemoryDispatcher()
    _create(database, dispatched=True)
    assert reap(database, dispatcher, redispatch_after_seconds=10) == []


def test_a_ring_that_got_lost_is_repeated_once_it_was_quiet_long_enough(database: Database) -> None:
    dispatcher = MemoryDispatcher()
    job_id = _create(database, dispatched=True)
    assert reap(database, dispatcher, redispatch_after_seconds=0) == [job_id]


def test_nothing_is_added_while_there_are_as_many_messages_as_jobs_that_wait(database: Database) -> None:
    dispatcher = MemoryDispatcher()
    dispatcher.dispatch("job_before")
    _create(database, dispatched=False)
    assert reap(database, dispatcher, redispatch_after_seconds=0) == []
    assert dispatcher.dispatched == ["job_before"]


def test_one_unread_message_does_not_stop_the_dispatch_of_other_jobs(database: Database) -> None:
    dispatcher = MemoryDispatcher()
    jobs = [_create(database, dispatched=False) for _ in range(3)]
    dispatcher.dispatch("job_before")
    assert reap(database, dispatcher, redispatch_after_seconds=0) == jobs[:2]
    assert reap(database, dispatcher, redispatch_after_seconds=0) == []
    assert len(dispatcher.dispatched) == 3


def test_nothing_is_dispatched_while_the_broker_is_down_and_the_job_stays_due(database: Database) -> None:
    job_id = _create(database, dispatched=False)
    assert reap(database, UnreachableDispatcher(), redispatch_after_seconds=10) == []
    assert reap(database, MemoryDispatcher(), redispatch_after_seconds=10) == [job_id]


def test_a_leased_job_is_not_dispatched_until_its_lease_expires(database: Database) -> None:
    job_id = _create(database, dispatched=False)
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    with database.write() as session:
        Jobs(session).lease(job_id, "a worker", seconds=60)
    assert reap(database, MemoryDispatcher(), redispatch_after_seconds=0) == []
    with database.write() as session:
        from registry.tables import JobRow

        row = session.get(JobRow, job_id)
        assert row is not None
        row.lease_expires_at = long_ago
    assert reap(database, MemoryDispatcher(), redispatch_after_seconds=0) == [job_id]


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
