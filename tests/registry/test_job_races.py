"""What happens when two transactions want the same job at the same moment."""

import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session

from contract.jobs import MAX_ATTEMPTS, JobKind, JobStatus
from registry.database import Database
from registry.errors import ConflictError, LeaseLostError
from registry.jobs import Jobs
from registry.leases import LEASE_SECONDS, Lease
from tests.registry.clock import Clock

Step = Callable[[Session], object]
NUM_THREADS = 6
HEAD_START_SECONDS = 0.3  # long enough for the second transaction to reach the row and wait there


def create(database: Database, clock: Clock) -> str:
    with database.write() as session:
        return Jobs(session, clock).create(JobKind.PATCH, "pt_1").id


def lease(database: Database, clock: Clock, job_id: str, owner: str = "a") -> Lease | None:
    with database.write() as session:
        return Jobs(session, clock).lease(job_id, owner)


def vanish(database: Database, clock: Clock, job_id: str) -> Lease:
    """Lease the job for the last time that it may be, and let the lease run out."""
    for _ in range(MAX_ATTEMPTS):
        held = lease(database, clock, job_id)
        clock.advance(LEASE_SECONDS + 1)
    assert held is not None
    return held


def overtake(database: Database, first: Step, second: Step) -> list[object]:
    """What the second transaction answers if it starts after the first has written, before that commits."""
    outcome: list[object] = []

    def late() -> None:
        try:
            with database.write() as session:
                outcome.append(second(session))
        except (ConflictError, LeaseLostError) as error:
            outcome.append(type(error))

    thread = threading.Thread(target=late)
    with database.write() as session:
        first(session)
        session.flush()
        thread.start()
        time.sleep(HEAD_START_SECONDS)
    thread.join()
    return outcome


def in_turn(database: Database, first: Step, second: Step) -> list[object]:
    """What both answer if the second transaction starts while the first is at it, each wanting to be alone."""
    outcome: list[object] = []

    def late() -> None:
        with database.write_alone() as session:
            outcome.append(second(session))

    thread = threading.Thread(target=late)
    with database.write_alone() as session:
        outcome.append(first(session))
        thread.start()
        time.sleep(HEAD_START_SECONDS)
    thread.join()
    return outcome


def final(database: Database, job_id: str) -> tuple[str, list[str]]:
    with database.read() as session:
        jobs = Jobs(session)
        return jobs.get(job_id).status, [event.message for event in jobs.events(job_id)]


@pytest.mark.parametrize("round_", range(3))
def test_of_many_workers_exactly_one_gets_the_job(database: Database, clock: Clock, round_: int) -> None:
    job_id = create(database, clock)
    barrier = threading.Barrier(NUM_THREADS)
    leases: list[Lease | None] = []

    def compete(owner: str) -> None:
        barrier.wait()
        leases.append(lease(database, clock, job_id, owner))

    threads = [threading.Thread(target=compete, args=(f"worker {number}",)) for number in range(NUM_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(leases) == NUM_THREADS
    assert [won for won in leases if won] == [Lease(job_id, 1)]


def test_a_late_success_is_not_reaped(database: Database, clock: Clock) -> None:
    job_id = create(database, clock)
    held = vanish(database, clock, job_id)
    overtake(
        database,
        lambda session: Jobs(session, clock).succeed(held),
        lambda session: Jobs(session, clock).reap(redispatch_after_seconds=0),
    )
    status, messages = final(database, job_id)
    assert status == JobStatus.SUCCEEDED
    assert messages[-1] == "succeeded"


def test_a_late_heartbeat_keeps_the_job_from_the_reaper(database: Database, clock: Clock) -> None:
    job_id = create(database, clock)
    held = vanish(database, clock, job_id)
    overtake(
        database,
        lambda session: Jobs(session, clock).heartbeat(held),
        lambda session: Jobs(session, clock).reap(redispatch_after_seconds=0),
    )
    assert final(database, job_id)[0] == JobStatus.RUNNING


def test_a_reaped_job_takes_no_late_success(database: Database, clock: Clock) -> None:
    job_id = create(database, clock)
    held = vanish(database, clock, job_id)
    outcome = overtake(
        database,
        lambda session: Jobs(session, clock).reap(redispatch_after_seconds=0),
        lambda session: Jobs(session, clock).succeed(held),
    )
    assert outcome == [LeaseLostError]
    assert final(database, job_id)[0] == JobStatus.FAILED


def test_a_cancel_that_comes_while_the_job_succeeds_is_refused(database: Database, clock: Clock) -> None:
    job_id = create(database, clock)
    held = lease(database, clock, job_id)
    assert held is not None
    outcome = overtake(
        database,
        lambda session: Jobs(session, clock).succeed(held),
        lambda session: Jobs(session, clock).request_cancel(job_id),
    )
    assert outcome == [ConflictError]
    assert final(database, job_id) == (JobStatus.SUCCEEDED, ["queued", "started", "succeeded"])


def test_a_cancel_that_comes_while_the_job_is_leased_reaches_the_holder(database: Database, clock: Clock) -> None:
    job_id = create(database, clock)
    overtake(
        database,
        lambda session: Jobs(session, clock).lease(job_id, "a"),
        lambda session: Jobs(session, clock).request_cancel(job_id),
    )
    assert final(database, job_id) == (JobStatus.RUNNING, ["queued", "started", "cancel requested"])


@pytest.mark.parametrize("late", ["succeed", "heartbeat"])
def test_a_worker_that_lost_its_job_hears_so_even_when_both_write_at_once(
    database: Database, clock: Clock, late: str
) -> None:
    job_id = create(database, clock)
    held = lease(database, clock, job_id)
    clock.advance(LEASE_SECONDS + 1)
    outcome = overtake(
        database,
        lambda session: Jobs(session, clock).lease(job_id, "b"),
        lambda session: getattr(Jobs(session, clock), late)(held),
    )
    assert outcome == [LeaseLostError]
