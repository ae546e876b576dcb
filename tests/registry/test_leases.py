"""Clocks that jump neither take a job from a healthy worker nor hold one for ever; on both engines."""

from datetime import timedelta

import pytest
from sqlalchemy import false
from sqlalchemy.orm import Session

from contract.jobs import JobKind
from registry.database import Database
from registry.jobs import Jobs
from registry.leases import LEASE_SECONDS, ClockWatch, has_lapsed
from tests.registry.clock import Clock

HOUR = 3600.0


class Clocks:
    """A wall clock that can be set, and a steady one that cannot."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_000_000.0, 50.0

    def watch(self) -> ClockWatch:
        return ClockWatch(lambda: self.wall, lambda: self.steady)

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def lease(session: Session, clock: Clock) -> str:
    jobs = Jobs(session, clock)
    job_id = jobs.create(JobKind.PATCH, "pt_1").id
    assert jobs.lease(job_id, "a worker") is not None
    return job_id


def test_a_lease_written_by_a_clock_that_was_two_hours_ahead_is_void(database: Database, clock: Clock) -> None:
    clock.advance(2 * HOUR)
    with database.write() as session:
        job_id = lease(session, clock)
    clock.advance(-2 * HOUR)  # the worker has died, and the clock was set right
    with database.write() as session:
        jobs = Jobs(session, clock)
        assert jobs.reap(redispatch_after_seconds=0) == [job_id]
        assert jobs.lease(job_id, "another worker") is not None


def test_a_job_held_by_such_a_lease_can_be_cancelled(database: Database, clock: Clock) -> None:
    clock.advance(2 * HOUR)
    with database.write() as session:
        job_id = lease(session, clock)
    clock.advance(-2 * HOUR)
    with database.write() as session:
        jobs = Jobs(session, clock)
        jobs.request_cancel(job_id)
        jobs.reap(redispatch_after_seconds=0)
        assert jobs.get(job_id).status == "cancelled"


def test_a_long_lease_and_clocks_that_differ_a_little_are_in_order(database: Database, clock: Clock) -> None:
    with database.write() as session:
        jobs = Jobs(session, clock)
        job_id = jobs.create(JobKind.PATCH, "pt_1").id
        clock.advance(LEASE_SECONDS)
        assert jobs.lease(job_id, "a worker", seconds=24 * HOUR) is not None
        clock.advance(-LEASE_SECONDS)
        assert jobs.reap(redispatch_after_seconds=0) == []
        assert jobs.lease(job_id, "another worker") is None


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_process_whose_clock_has_jumped_judges_no_lease_for_some_seconds(jump: float, clock: Clock) -> None:
    clocks = Clocks()
    watch = clocks.watch()
    clocks.pass_by(HOUR)
    assert watch.has_settled()
    clocks.wall += jump
    assert not watch.has_settled()
    assert has_lapsed(clock(), watch).compare(false())
    clocks.pass_by(3)
    assert not watch.has_settled()
    clocks.pass_by(8)
    assert watch.has_settled()
    assert not has_lapsed(clock(), watch).compare(false())


def test_a_machine_that_slept_lets_its_workers_renew_before_it_judges(clock: Clock) -> None:
    clocks = Clocks()
    watch = clocks.watch()
    clocks.wall += 8 * HOUR  # the steady clock stands still meanwhile
    assert not watch.has_settled()


def test_a_worker_that_lives_renews_within_the_settling_time_and_keeps_its_job(
    database: Database, clock: Clock
) -> None:
    with database.write() as session:
        jobs = Jobs(session, clock)
        job_id = jobs.create(JobKind.PATCH, "pt_1").id
        held = jobs.lease(job_id, "a worker")
        assert held is not None
        clock.moment += timedelta(hours=1)
        jobs.heartbeat(held)
        assert jobs.reap(redispatch_after_seconds=0) == []
