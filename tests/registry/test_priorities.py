"""Which of the waiting jobs is taken first, and how many an owner has; on both engines."""

import threading
from itertools import permutations

import pytest
from sqlalchemy.orm import Session

from contract.jobs import MAX_ATTEMPTS, JobKind, Priority
from registry.database import Database
from registry.datasets import DatasetOptions, Datasets
from registry.jobs import Jobs
from registry.leases import LEASE_SECONDS
from registry.tables import JobRow
from tests.registry.clock import Clock


def create(session: Session, clock: Clock, priority: Priority = Priority.NORMAL, owner: str | None = None) -> str:
    clock.advance(1)
    return Jobs(session, clock).create(JobKind.PATCH, "pt_1", owner, priority=priority).id


def take_all(session: Session, clock: Clock) -> list[str]:
    taken = []
    while lease := Jobs(session, clock).lease_best("a worker"):
        taken.append(lease.job_id)
    return taken


@pytest.mark.parametrize("order", list(permutations(Priority)), ids=str)
def test_a_higher_priority_is_taken_first_however_late_it_came(
    database: Database, clock: Clock, order: tuple[Priority, ...]
) -> None:
    with database.write() as session:
        jobs = {priority: create(session, clock, priority) for priority in order}
        assert take_all(session, clock) == [jobs[Priority.HIGH], jobs[Priority.NORMAL], jobs[Priority.LOW]]


def test_of_one_priority_the_oldest_is_taken_first(database: Database, clock: Clock) -> None:
    with database.write() as session:
        jobs = [create(session, clock) for _ in range(4)]
        assert take_all(session, clock) == jobs
        assert take_all(session, clock) == []


def test_only_what_may_be_worked_on_is_taken(database: Database, clock: Clock) -> None:
    with database.write() as session:
        held, lapsed, cancelled, ended, exhausted = (create(session, clock, Priority.HIGH) for _ in range(5))
        jobs = Jobs(session, clock)
        jobs.lease(lapsed, "b")
        for _ in range(MAX_ATTEMPTS):
            assert jobs.lease(exhausted, "b")
            clock.advance(LEASE_SECONDS + 1)
        jobs.lease(held, "b")
        jobs.request_cancel(cancelled)
        lease = jobs.lease(ended, "b")
        assert lease is not None
        jobs.succeed(lease)
        waiting = create(session, clock, Priority.LOW)
        assert take_all(session, clock) == [lapsed, waiting]


def test_a_data_set_is_read_before_patches_are_made(database: Database, clock: Clock) -> None:
    with database.write() as session:
        create(session, clock)
        clock.advance(1)
        dataset, _ = Datasets(session, clock).submit("digits", "0" * 64, DatasetOptions())
        assert take_all(session, clock)[0] == dataset.job_id


def test_workers_that_look_at_once_take_different_jobs(database: Database, clock: Clock) -> None:
    with database.write() as session:
        jobs = [create(session, clock) for _ in range(8)]
    taken: list[str] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        for _ in range(2):
            with database.write() as session:
                lease = Jobs(session, clock).lease_best("a worker")
            if lease is not None:
                taken.append(lease.job_id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(jobs)


def test_an_owners_unfinished_jobs_are_counted(database: Database, clock: Clock) -> None:
    with database.write() as session:
        jobs = Jobs(session, clock)
        _waits, runs, ended = (create(session, clock, owner="me") for _ in range(3))
        create(session, clock, owner="other")
        create(session, clock)
        jobs.lease(runs, "a worker")
        jobs.request_cancel(ended)
        jobs.create(JobKind.FINETUNE, "pt_1", "me", parent_id=runs, part="ds_1")  # of one request with its parent
        assert (jobs.count_unfinished("me"), jobs.count_unfinished("nobody")) == (2, 0)


def test_a_job_of_an_older_release_has_the_normal_priority(database: Database, clock: Clock) -> None:
    with database.write() as session:
        job_id = create(session, clock)
        row = session.get(JobRow, job_id)
        assert row is not None
        assert Priority(row.priority).label == "normal"
