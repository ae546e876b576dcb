"""Every attempt at a job is kept with its cause, on both engines."""

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from contract.jobs import MAX_ATTEMPTS, AttemptCause, JobKind, JobStatus
from registry.attempts import Attempts
from registry.database import Database
from registry.jobs import Jobs
from registry.leases import LEASE_SECONDS, Lease
from registry.tables import JobAttemptRow
from tests.registry.clock import Clock


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.write() as session:
        yield session


@pytest.fixture
def jobs(session: Session, clock: Clock) -> Jobs:
    return Jobs(session, clock)


@pytest.fixture
def job_id(jobs: Jobs) -> str:
    return jobs.create(JobKind.PATCH, "pt_1").id


def hold(jobs: Jobs, job_id: str, stage: str = "finetune") -> Lease:
    lease = jobs.lease(job_id, "host:7")
    assert lease is not None
    jobs.report(lease, stage=stage, progress=0.1, eta_seconds=None)
    return lease


def causes(session: Session, job_id: str) -> list[tuple[int, str | None]]:
    return [(row.attempt, row.cause) for row in Attempts(session).all(job_id)]


def last(session: Session, job_id: str) -> JobAttemptRow:
    return Attempts(session).all(job_id)[-1]


def test_an_attempt_is_open_while_a_worker_holds_the_job(
    session: Session, jobs: Jobs, job_id: str, clock: Clock
) -> None:
    assert causes(session, job_id) == []
    hold(jobs, job_id)
    row = last(session, job_id)
    assert (row.attempt, row.worker, row.started_at) == (1, "host:7", clock.moment)
    assert (row.ended_at, row.cause, row.detail, row.log_tail) == (None, None, None, None)


def test_every_end_of_a_job_ends_its_attempt(session: Session, jobs: Jobs, clock: Clock) -> None:
    ended = {}
    for cause in (AttemptCause.SUCCEEDED, AttemptCause.CANCELLED, AttemptCause.FAILED, AttemptCause.OUT_OF_MEMORY):
        job = jobs.create(JobKind.PATCH, "pt_1").id
        lease = hold(jobs, job)
        clock.advance(2)
        if cause is AttemptCause.SUCCEEDED:
            jobs.succeed(lease)
        elif cause is AttemptCause.CANCELLED:
            jobs.cancel(lease)
        else:
            code = "empty_class" if cause is AttemptCause.FAILED else "out_of_memory"
            jobs.fail(lease, code, "What to do.", "the last line")
        ended[cause] = last(session, job)
    assert [row.cause for row in ended.values()] == list(ended)
    assert all((row.ended_at, row.stage) == (clock.moment, "finetune") for row in list(ended.values())[-1:])
    failed = ended[AttemptCause.FAILED]
    assert (failed.detail, failed.log_tail) == ("empty_class: What to do.", "the last line")


def test_a_poison_job_tells_the_cause_of_each_attempt(session: Session, jobs: Jobs, job_id: str, clock: Clock) -> None:
    jobs.release(hold(jobs, job_id), "the trainer ended with exit status 3", counts_as_attempt=True, log_tail="ouch")
    killed = AttemptCause.TRAINER_KILLED
    jobs.release(hold(jobs, job_id), "the trainer ended with signal 9", counts_as_attempt=True, cause=killed)
    hold(jobs, job_id, "evaluate")
    clock.advance(LEASE_SECONDS + 1)
    jobs.reap(redispatch_after_seconds=0)
    job = jobs.get(job_id)
    assert (job.status, job.error_code) == (JobStatus.FAILED, "attempts_exhausted")
    assert causes(session, job_id) == [(1, "trainer_exited"), (2, "trainer_killed"), (3, "lease_lapsed")]
    for number, words in (
        (1, "exit status 3"),
        (2, "signal 9"),
        (3, "worker host:7 sent no heartbeat, in stage evaluate"),
    ):
        assert f"attempt {number}: " in (job.error_detail or "")
        assert words in (job.error_detail or "")


def test_a_lease_that_lapsed_is_noticed_by_the_next_worker(
    session: Session, jobs: Jobs, job_id: str, clock: Clock
) -> None:
    hold(jobs, job_id)
    clock.advance(LEASE_SECONDS + 1)
    hold(jobs, job_id)
    first, second = Attempts(session).all(job_id)
    assert (first.cause, first.ended_at) == (AttemptCause.LEASE_LAPSED, clock.moment)
    assert second.ended_at is None


def test_a_worker_that_stops_uses_up_no_attempt_and_is_not_blamed(session: Session, jobs: Jobs, job_id: str) -> None:
    jobs.release(hold(jobs, job_id), "the worker is shutting down", counts_as_attempt=False)
    for _ in range(MAX_ATTEMPTS):
        jobs.release(hold(jobs, job_id), "it died", counts_as_attempt=True)
    assert [attempt for attempt, _ in causes(session, job_id)] == [1, 1, 2, 3]
    assert causes(session, job_id)[0] == (1, "worker_stopped")
    assert "shutting down" not in (jobs.get(job_id).error_detail or "")


def test_after_a_retry_only_the_new_attempts_are_blamed(session: Session, jobs: Jobs, job_id: str) -> None:
    for reason in ("old cause", "new cause"):
        for _ in range(MAX_ATTEMPTS):
            jobs.release(hold(jobs, job_id), reason, counts_as_attempt=True)
        if reason == "old cause":
            jobs.retry(job_id)
    assert len(causes(session, job_id)) == 2 * MAX_ATTEMPTS
    assert "old cause" not in (jobs.get(job_id).error_detail or "")
