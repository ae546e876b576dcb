"""Child jobs: their parent waits, held by no worker, is continued exactly once, and ends if they fail."""

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

NUM_CHILDREN = 3


@dataclass
class Group:
    """A parent and its child jobs."""

    database: Database
    clock: Clock
    parent: str
    children: list[str]

    def job(self, job_id: str) -> JobRow:
        with self.database.read() as session:
            return Jobs(session).get(job_id)

    @property
    def statuses(self) -> list[str]:
        """Of the parent, then of its children."""
        return [self.job(job_id).status for job_id in (self.parent, *self.children)]

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
def group(database: Database, clock: Clock) -> Group:
    with database.write() as session:
        jobs = Jobs(session, clock)
        parent = jobs.create(JobKind.PATCH, "pt_1", "ada").id
        children = []
        for number in range(NUM_CHILDREN):
            clock.advance(1)
            children.append(jobs.create(JobKind.FINETUNE, "pt_1", "ada", parent_id=parent, part=f"ds_{number}").id)
    return Group(database, clock, parent, children)


def test_a_parent_waits_held_by_nobody_until_its_last_child_has_ended(group: Group) -> None:
    with group.database.read() as session:
        assert Jobs(session).to_dispatch(group.parent) == group.children
    for child in group.children:
        assert group.lease(group.parent) is None
        assert group.parent not in group.reap()
        group.do(child)
    assert group.statuses == ["queued", *["succeeded"] * NUM_CHILDREN]
    assert group.reap() == [group.parent]
    group.do(group.parent)
    assert group.statuses == ["succeeded"] * (NUM_CHILDREN + 1)
    assert group.job(group.parent).attempt == 1
    ended = ["part ended"] * NUM_CHILDREN
    expected = ["queued", "parts started", *ended, "all parts ended", "started", "succeeded"]
    assert group.messages(group.parent) == expected
    assert [group.job(child).checkpoint for child in group.children] == [{"of": child} for child in group.children]


def test_a_waiting_parent_tells_that_it_runs_and_how_far_its_children_are(group: Group) -> None:
    lease = group.hold(group.children[0])
    group.write(lambda jobs: jobs.report(lease, stage="finetune", progress=0.9, eta_seconds=1.0))
    group.write(lambda jobs: jobs.share_progress(group.children[0]))
    parent = group.job(group.parent)
    assert (parent.status, parent.stage, parent.lease_owner, parent.attempt) == ("running", "finetune", None, 0)
    assert parent.progress == pytest.approx(0.75 * 0.3)
    assert parent.started_at is not None


@pytest.mark.parametrize("round_", range(5))
def test_of_children_that_end_at_the_same_moment_one_is_the_last(group: Group, round_: int) -> None:
    leases = [group.hold(child) for child in group.children]
    barrier = threading.Barrier(NUM_CHILDREN)

    def end(lease: Lease) -> None:
        barrier.wait()
        group.write(lambda jobs: jobs.succeed(lease))

    threads = [threading.Thread(target=end, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert group.statuses == ["queued", *["succeeded"] * NUM_CHILDREN]
    assert group.messages(group.parent).count("all parts ended") == 1


@pytest.mark.parametrize("round_", range(5))
def test_a_cancel_while_parts_end_and_fail_leaves_nothing_open(group: Group, round_: int) -> None:
    first, second = group.hold(group.children[0]), group.hold(group.children[1])
    changes: list[Callable[[Jobs], object]] = [
        lambda jobs: jobs.fail(first, "broken", "It broke."),
        lambda jobs: jobs.release(second, "stopping", counts_as_attempt=False),
        lambda jobs: jobs.request_cancel(group.parent),
    ]
    barrier = threading.Barrier(len(changes))
    troubles: list[Exception] = []

    def act(change: Callable[[Jobs], object]) -> None:
        barrier.wait()
        try:
            group.write(change)
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
    assert all(JobStatus(status).ended for status in group.statuses), group.statuses


def test_a_child_that_fails_stops_the_others_and_its_cause_is_the_parents(group: Group) -> None:
    first, second = group.hold(group.children[0]), group.hold(group.children[1])
    group.write(lambda jobs: jobs.fail(first, "non_finite_loss", "The loss is not finite."))
    assert group.statuses == ["running", "failed", "running", "cancelled"]
    with group.database.write() as session:
        assert Jobs(session, group.clock).heartbeat(second)  # it is told to stop
    group.write(lambda jobs: jobs.cancel(second))
    assert group.statuses == ["failed", "failed", "cancelled", "cancelled"]
    parent = group.job(group.parent)
    assert parent.error_code == "non_finite_loss"
    assert "ds_0" in (parent.error_detail or "")
    assert "The loss is not finite." in (parent.error_detail or "")


def test_a_child_whose_workers_vanish_fails_its_parent(group: Group) -> None:
    for _ in range(MAX_ATTEMPTS):
        group.hold(group.children[0])
        group.clock.advance(LEASE_SECONDS + 1)
    group.reap()
    assert group.statuses == ["failed", "failed", "cancelled", "cancelled"]
    assert group.job(group.parent).error_code == "attempts_exhausted"


def test_cancelling_a_parent_cancels_its_parts_and_it_ends_with_the_last(group: Group) -> None:
    running = group.hold(group.children[0])
    group.write(lambda jobs: jobs.request_cancel(group.parent))
    assert group.statuses == ["running", "running", "cancelled", "cancelled"]
    assert group.job(group.parent).cancel_requested
    group.write(lambda jobs: jobs.cancel(running))
    assert group.statuses == ["cancelled"] * (NUM_CHILDREN + 1)


def test_a_parent_of_which_nothing_runs_is_cancelled_at_once(group: Group) -> None:
    group.do(group.children[0])
    group.write(lambda jobs: jobs.request_cancel(group.parent))
    assert group.statuses == ["cancelled", "succeeded", "cancelled", "cancelled"]
    assert group.messages(group.parent).count("cancelled") == 1
    assert group.reap() == []


def test_a_child_whose_worker_vanished_after_a_cancel_is_ended_by_the_reaper(group: Group) -> None:
    group.hold(group.children[0])
    group.write(lambda jobs: jobs.request_cancel(group.parent))
    group.clock.advance(LEASE_SECONDS + 1)
    assert group.reap() == []
    assert group.statuses == ["cancelled"] * (NUM_CHILDREN + 1)


def test_a_child_is_cancelled_and_retried_with_its_parent_only(group: Group) -> None:
    with pytest.raises(ConflictError, match=group.parent):
        group.write(lambda jobs: jobs.request_cancel(group.children[0]))
    lease = group.hold(group.children[0])
    group.write(lambda jobs: jobs.fail(lease, "broken", "It broke."))
    with pytest.raises(ConflictError, match=group.parent):
        group.write(lambda jobs: jobs.retry(group.children[0]))


def test_a_retry_does_again_what_did_not_succeed_and_nothing_else(group: Group) -> None:
    group.do(group.children[0])
    lease = group.hold(group.children[1])
    group.write(lambda jobs: jobs.save_checkpoint(lease, {"step": 7}))
    group.write(lambda jobs: jobs.fail(lease, "broken", "It broke."))
    group.write(lambda jobs: jobs.retry(group.parent))
    assert group.statuses == ["queued", "succeeded", "queued", "queued"]
    assert group.lease(group.parent) is None
    assert group.reap() == group.children[1:]
    assert group.job(group.children[1]).checkpoint == {"step": 7}
    for child in group.children[1:]:
        group.do(child)
    assert group.reap() == [group.parent]
    joined = group.hold(group.parent)
    group.write(lambda jobs: jobs.fail(joined, "broken", "It broke."))
    group.write(lambda jobs: jobs.retry(group.parent))
    assert group.statuses == ["queued", *["succeeded"] * NUM_CHILDREN]
    with group.database.read() as session:
        assert Jobs(session).to_dispatch(group.parent) == [group.parent]


def test_a_parent_is_taken_once_its_parts_have_ended_before_what_was_asked_for_later(group: Group) -> None:
    group.clock.advance(1)
    with group.database.write() as session:
        jobs = Jobs(session, group.clock)
        later = jobs.create(JobKind.PATCH, "pt_2").id
        urgent = jobs.create(JobKind.PATCH, "pt_3", priority=Priority.HIGH).id
    taken: list[str] = []

    def take(jobs: Jobs) -> None:
        lease = jobs.lease_best("a worker")
        if lease is not None:
            taken.append(lease.job_id)
            jobs.succeed(lease)

    for _ in range(NUM_CHILDREN + 4):
        group.write(take)
    assert taken == [urgent, *group.children, group.parent, later]


def test_workers_that_take_and_end_parts_of_several_jobs_at_once_do_all_of_them_once(database: Database) -> None:
    clock, num_groups, num_workers = Clock(), 3, 4
    with database.write() as session:
        jobs = Jobs(session, clock)
        for number in range(num_groups):
            clock.advance(1)
            parent = jobs.create(JobKind.PATCH, f"pt_{number}").id
            for index in range(NUM_CHILDREN):
                jobs.create(JobKind.FINETUNE, f"pt_{number}", parent_id=parent, part=f"ds_{index}")
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
    assert len(taken) == len(set(taken)) == num_groups * (NUM_CHILDREN + 1)
    with database.read() as session:
        assert {job.status for job in session.scalars(select(JobRow))} == {"succeeded"}


def test_attempts_at_parts_are_kept_and_the_message_about_the_end_is_the_parents(group: Group) -> None:
    with group.database.write() as session:
        Jobs(session).get(group.parent).webhook_url = "https://example.org/hook"
    first, second = group.hold(group.children[0]), group.hold(group.children[1])
    group.write(lambda jobs: jobs.fail(first, "out_of_memory", "It ran out.", "the last line"))
    group.write(lambda jobs: jobs.release(second, "stopping", counts_as_attempt=False))
    assert group.statuses == ["failed", "failed", "cancelled", "cancelled"]
    with group.database.read() as session:
        attempts = [Attempts(session).all(job_id) for job_id in (group.parent, *group.children)]
        told = [Deliveries(session).newest_of(job_id) for job_id in (group.parent, *group.children)]
    assert [[each.cause for each in of_job] for of_job in attempts] == [[], ["out_of_memory"], ["worker_stopped"], []]
    assert attempts[1][0].log_tail == "the last line"
    assert [None if each is None else each.payload["data"]["status"] for each in told] == ["failed", None, None, None]


def test_a_child_that_ends_well_tells_which_checkpoint_its_result_replaces(group: Group) -> None:
    lease = group.hold(group.children[0])
    group.write(lambda jobs: jobs.save_checkpoint(lease, {"state_sha256": "a"}))
    with group.database.write() as session:
        assert Jobs(session, group.clock).succeed(lease, {"task_vectors": {}}) == {"state_sha256": "a"}
    assert group.job(group.children[0]).checkpoint == {"task_vectors": {}}
