"""Jobs that do the parts of another one: it waits held by nobody, goes on exactly once, and ends if they cannot."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from sqlalchemy import select

from contract.jobs import MAX_ATTEMPTS, JobKind, JobStatus, Priority
from registry.attempts import Attempts
from registry.database import Database
from registry.deliveries import Deliveries
from registry.errors import ConflictError
from registry.jobs import Jobs
from registry.leases import LEASE_SECONDS, Lease
from registry.tables import JobRow
from tests.registry.clock import Clock

NUM_PARTS = 3


@dataclass
class Family:
    """A parent and its parts."""

    database: Database
    clock: Clock
    parent: str
    parts: list[str]

    def job(self, job_id: str) -> JobRow:
        with self.database.read() as session:
            return Jobs(session).get(job_id)

    @property
    def statuses(self) -> list[str]:
        """Of the parent, then of the parts."""
        return [self.job(job_id).status for job_id in (self.parent, *self.parts)]

    def lease(self, job_id: str) -> Lease | None:
        with self.database.write() as session:
            return Jobs(session, self.clock).lease(job_id, "a worker")

    def hold(self, job_id: str) -> Lease:
        lease = self.lease(job_id)
        assert lease is not None
        return lease

    def write(self, change: Callable[[Jobs], object]) -> None:
        with self.database.write() as session:
            change(Jobs(session, self.clock))

    def do(self, job_id: str) -> None:
        lease = self.hold(job_id)
        self.write(lambda jobs: jobs.succeed(lease, {"of": job_id}))

    def reap(self) -> list[str]:
        with self.database.write() as session:
            return Jobs(session, self.clock).reap(0)

    def messages(self, job_id: str) -> list[str]:
        with self.database.read() as session:
            return [event.message for event in Jobs(session).events(job_id)]


@pytest.fixture
def family(database: Database, clock: Clock) -> Family:
    with database.write() as session:
        jobs = Jobs(session, clock)
        parent = jobs.create(JobKind.PATCH, "pt_1", "ada").id
        parts = []
        for number in range(NUM_PARTS):
            clock.advance(1)
            parts.append(jobs.create(JobKind.FINETUNE, "pt_1", "ada", parent_id=parent, part=f"ds_{number}").id)
    return Family(database, clock, parent, parts)


def test_a_parent_waits_held_by_nobody_until_its_last_part_has_ended(family: Family) -> None:
    with family.database.read() as session:
        assert Jobs(session).to_dispatch(family.parent) == family.parts
    for part in family.parts:
        assert family.lease(family.parent) is None
        assert family.parent not in family.reap()
        family.do(part)
    assert family.statuses == ["queued", *["succeeded"] * NUM_PARTS]
    assert family.reap() == [family.parent]
    family.do(family.parent)
    assert family.statuses == ["succeeded"] * (NUM_PARTS + 1)
    assert family.job(family.parent).attempt == 1
    ended = ["part ended"] * NUM_PARTS
    expected = ["queued", "parts started", *ended, "all parts ended", "started", "succeeded"]
    assert family.messages(family.parent) == expected
    assert [family.job(part).checkpoint for part in family.parts] == [{"of": part} for part in family.parts]


def test_a_waiting_parent_tells_that_it_runs_and_how_far_its_parts_are(family: Family) -> None:
    lease = family.hold(family.parts[0])
    family.write(lambda jobs: jobs.report(lease, stage="finetune", progress=0.9, eta_seconds=1.0))
    family.write(lambda jobs: jobs.share_progress(family.parts[0]))
    parent = family.job(family.parent)
    assert (parent.status, parent.stage, parent.lease_owner, parent.attempt) == ("running", "finetune", None, 0)
    assert parent.progress == pytest.approx(0.75 * 0.3)
    assert parent.started_at is not None


@pytest.mark.parametrize("round_", range(5))
def test_of_parts_that_end_at_the_same_moment_one_is_the_last(family: Family, round_: int) -> None:
    leases = [family.hold(part) for part in family.parts]
    barrier = threading.Barrier(NUM_PARTS)

    def end(lease: Lease) -> None:
        barrier.wait()
        family.write(lambda jobs: jobs.succeed(lease))

    threads = [threading.Thread(target=end, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert family.statuses == ["queued", *["succeeded"] * NUM_PARTS]
    assert family.messages(family.parent).count("all parts ended") == 1


@pytest.mark.parametrize("round_", range(5))
def test_a_cancel_while_parts_end_and_fail_leaves_nothing_open(family: Family, round_: int) -> None:
    first, second = family.hold(family.parts[0]), family.hold(family.parts[1])
    changes: list[Callable[[Jobs], object]] = [
        lambda jobs: jobs.fail(first, "broken", "It broke."),
        lambda jobs: jobs.release(second, "stopping", counts_as_attempt=False),
        lambda jobs: jobs.request_cancel(family.parent),
    ]
    barrier = threading.Barrier(len(changes))
    troubles: list[Exception] = []

    def act(change: Callable[[Jobs], object]) -> None:
        barrier.wait()
        try:
            family.write(change)
        except ConflictError:  # the failure was through first, and ended the job
            pass
        except Exception as error:
            troubles.append(error)

    threads = [threading.Thread(target=act, args=(change,)) for change in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert all(JobStatus(status).ended for status in family.statuses), family.statuses


def test_a_part_that_fails_stops_the_others_and_its_cause_is_the_parents(family: Family) -> None:
    first, second = family.hold(family.parts[0]), family.hold(family.parts[1])
    family.write(lambda jobs: jobs.fail(first, "non_finite_loss", "The loss is not finite."))
    assert family.statuses == ["running", "failed", "running", "cancelled"]
    with family.database.write() as session:
        assert Jobs(session, family.clock).heartbeat(second)  # it is told to stop
    family.write(lambda jobs: jobs.cancel(second))
    assert family.statuses == ["failed", "failed", "cancelled", "cancelled"]
    parent = family.job(family.parent)
    assert parent.error_code == "non_finite_loss"
    assert "ds_0" in (parent.error_detail or "")
    assert "The loss is not finite." in (parent.error_detail or "")


def test_a_part_whose_workers_vanish_fails_its_parent(family: Family) -> None:
    for _ in range(MAX_ATTEMPTS):
        family.hold(family.parts[0])
        family.clock.advance(LEASE_SECONDS + 1)
    family.reap()
    assert family.statuses == ["failed", "failed", "cancelled", "cancelled"]
    assert family.job(family.parent).error_code == "attempts_exhausted"


def test_cancelling_a_parent_cancels_its_parts_and_it_ends_with_the_last(family: Family) -> None:
    running = family.hold(family.parts[0])
    family.write(lambda jobs: jobs.request_cancel(family.parent))
    assert family.statuses == ["running", "running", "cancelled", "cancelled"]
    assert family.job(family.parent).cancel_requested
    family.write(lambda jobs: jobs.cancel(running))
    assert family.statuses == ["cancelled"] * (NUM_PARTS + 1)


def test_a_parent_of_which_nothing_runs_is_cancelled_at_once(family: Family) -> None:
    family.do(family.parts[0])
    family.write(lambda jobs: jobs.request_cancel(family.parent))
    assert family.statuses == ["cancelled", "succeeded", "cancelled", "cancelled"]
    assert family.messages(family.parent).count("cancelled") == 1
    assert family.reap() == []


def test_a_part_whose_worker_vanished_after_a_cancel_is_ended_by_the_reaper(family: Family) -> None:
    family.hold(family.parts[0])
    family.write(lambda jobs: jobs.request_cancel(family.parent))
    family.clock.advance(LEASE_SECONDS + 1)
    assert family.reap() == []
    assert family.statuses == ["cancelled"] * (NUM_PARTS + 1)


def test_a_part_is_cancelled_and_retried_with_its_parent_only(family: Family) -> None:
    with pytest.raises(ConflictError, match=family.parent):
        family.write(lambda jobs: jobs.request_cancel(family.parts[0]))
    lease = family.hold(family.parts[0])
    family.write(lambda jobs: jobs.fail(lease, "broken", "It broke."))
    with pytest.raises(ConflictError, match=family.parent):
        family.write(lambda jobs: jobs.retry(family.parts[0]))


def test_a_retry_does_again_what_did_not_succeed_and_nothing_else(family: Family) -> None:
    family.do(family.parts[0])
    lease = family.hold(family.parts[1])
    family.write(lambda jobs: jobs.save_checkpoint(lease, {"step": 7}))
    family.write(lambda jobs: jobs.fail(lease, "broken", "It broke."))
    family.write(lambda jobs: jobs.retry(family.parent))
    assert family.statuses == ["queued", "succeeded", "queued", "queued"]
    assert family.lease(family.parent) is None
    assert family.reap() == family.parts[1:]
    assert family.job(family.parts[1]).checkpoint == {"step": 7}
    for part in family.parts[1:]:
        family.do(part)
    assert family.reap() == [family.parent]
    joined = family.hold(family.parent)
    family.write(lambda jobs: jobs.fail(joined, "broken", "It broke."))
    family.write(lambda jobs: jobs.retry(family.parent))
    assert family.statuses == ["queued", *["succeeded"] * NUM_PARTS]
    with family.database.read() as session:
        assert Jobs(session).to_dispatch(family.parent) == [family.parent]


def test_a_parent_is_taken_once_its_parts_have_ended_before_what_was_asked_for_later(family: Family) -> None:
    family.clock.advance(1)
    with family.database.write() as session:
        jobs = Jobs(session, family.clock)
        later = jobs.create(JobKind.PATCH, "pt_2").id
        urgent = jobs.create(JobKind.PATCH, "pt_3", priority=Priority.HIGH).id
    taken: list[str] = []

    def take(jobs: Jobs) -> None:
        lease = jobs.lease_best("a worker")
        if lease is not None:
            taken.append(lease.job_id)
            jobs.succeed(lease)

    for _ in range(NUM_PARTS + 4):
        family.write(take)
    assert taken == [urgent, *family.parts, family.parent, later]


def test_workers_that_take_and_end_parts_of_several_jobs_at_once_do_all_of_them_once(database: Database) -> None:
    clock, num_families, num_workers = Clock(), 3, 4
    with database.write() as session:
        jobs = Jobs(session, clock)
        for number in range(num_families):
            clock.advance(1)
            parent = jobs.create(JobKind.PATCH, f"pt_{number}").id
            for part in range(NUM_PARTS):
                jobs.create(JobKind.FINETUNE, f"pt_{number}", parent_id=parent, part=f"ds_{part}")
    taken: list[str] = []
    troubles: list[Exception] = []
    barrier = threading.Barrier(num_workers)

    def answer() -> None:
        barrier.wait()
        try:
            while True:
                with database.write() as session:
                    lease = Jobs(session, clock).lease_best("a worker")
                if lease is None:
                    return
                taken.append(lease.job_id)
                with database.write() as session:
                    Jobs(session, clock).succeed(lease)
        except Exception as error:
            troubles.append(error)

    threads = [threading.Thread(target=answer) for _ in range(num_workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert len(taken) == len(set(taken)) == num_families * (NUM_PARTS + 1)
    with database.read() as session:
        assert {job.status for job in session.scalars(select(JobRow))} == {"succeeded"}


def test_attempts_at_parts_are_kept_and_the_message_about_the_end_is_the_parents(family: Family) -> None:
    with family.database.write() as session:
        Jobs(session).get(family.parent).webhook_url = "https://example.org/hook"
    first, second = family.hold(family.parts[0]), family.hold(family.parts[1])
    family.write(lambda jobs: jobs.fail(first, "out_of_memory", "It ran out.", "the last line"))
    family.write(lambda jobs: jobs.release(second, "stopping", counts_as_attempt=False))
    assert family.statuses == ["failed", "failed", "cancelled", "cancelled"]
    with family.database.read() as session:
        attempts = [Attempts(session).all(job_id) for job_id in (family.parent, *family.parts)]
        told = [Deliveries(session).newest_of(job_id) for job_id in (family.parent, *family.parts)]
    assert [[each.cause for each in of_job] for of_job in attempts] == [[], ["out_of_memory"], ["worker_stopped"], []]
    assert attempts[1][0].log_tail == "the last line"
    assert [None if each is None else each.payload["data"]["status"] for each in told] == ["failed", None, None, None]


def test_a_part_that_ends_well_tells_which_checkpoint_its_result_replaces(family: Family) -> None:
    lease = family.hold(family.parts[0])
    family.write(lambda jobs: jobs.save_checkpoint(lease, {"state_sha256": "a"}))
    with family.database.write() as session:
        assert Jobs(session, family.clock).succeed(lease, {"task_vectors": {}}) == {"state_sha256": "a"}
    assert family.job(family.parts[0]).checkpoint == {"task_vectors": {}}
