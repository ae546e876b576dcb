"""The contract of jobs, on both engines. `test_job_model.py` walks the same methods at random."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy.orm import Session

from contract.datasets import DatasetState
from contract.jobs import MAX_ATTEMPTS, JobKind, JobStatus
from registry.database import Database
from registry.datasets import DatasetOptions, Datasets
from registry.errors import ConflictError, LeaseLostError, NotFoundError
from registry.jobs import Jobs
from registry.leases import LEASE_SECONDS, Lease
from registry.tables import JobRow
from tests.registry.clock import Clock

WRITES: dict[str, Callable[[Jobs, Lease], object]] = {
    "heartbeat": lambda jobs, lease: jobs.heartbeat(lease),
    "report": lambda jobs, lease: jobs.report(lease, stage="finetune", progress=0.5, eta_seconds=3.0),
    "save_checkpoint": lambda jobs, lease: jobs.save_checkpoint(lease, {"step": 7}),
    "note": lambda jobs, lease: jobs.note(lease, "noted"),
    "release": lambda jobs, lease: jobs.release(lease, "stopped", counts_as_attempt=False),
    "succeed": lambda jobs, lease: jobs.succeed(lease),
    "fail": lambda jobs, lease: jobs.fail(lease, "broken", "It broke."),
    "cancel": lambda jobs, lease: jobs.cancel(lease),
}
COLUMNS = [attribute.key for attribute in JobRow.__mapper__.column_attrs]
ENDS = {"succeed": JobStatus.SUCCEEDED, "fail": JobStatus.FAILED, "cancel": JobStatus.CANCELLED}


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.write() as session:
        yield session


@pytest.fixture
def jobs(session: Session, clock: Clock) -> Jobs:
    return Jobs(session, clock)


def create(jobs: Jobs) -> str:
    return jobs.create(JobKind.PATCH, "pt_1").id


def hold(jobs: Jobs, job_id: str, owner: str = "a") -> Lease:
    lease = jobs.lease(job_id, owner)
    assert lease is not None
    return lease


def status(jobs: Jobs, job_id: str) -> str:
    return jobs.get(job_id).status


def messages(jobs: Jobs, job_id: str) -> list[str]:
    return [event.message for event in jobs.events(job_id)]


def row(jobs: Jobs, job_id: str) -> dict[str, object]:
    job = jobs.get(job_id)
    return {column: getattr(job, column) for column in COLUMNS}


def test_a_new_job_is_queued(jobs: Jobs, clock: Clock) -> None:
    job = jobs.get(create(jobs))
    assert (job.status, job.progress, job.attempt, job.created_at) == (JobStatus.QUEUED, 0.0, 0, clock.moment)
    assert messages(jobs, job.id) == ["queued"]


def test_an_unknown_job_is_not_found(jobs: Jobs) -> None:
    with pytest.raises(NotFoundError, match="job_nothing"):
        jobs.get("job_nothing")
    with pytest.raises(NotFoundError):
        jobs.request_cancel("job_nothing")
    assert jobs.lease("job_nothing", "a") is None


def test_newest_jobs_come_first(jobs: Jobs, clock: Clock) -> None:
    created = []
    for _ in range(3):
        created.append(create(jobs))
        clock.advance(1)
    assert [job.id for job in jobs.newest()] == created[::-1]
    assert [job.id for job in jobs.newest(limit=1)] == created[-1:]


def test_a_leased_job_runs_for_its_owner(jobs: Jobs, clock: Clock) -> None:
    job_id = create(jobs)
    clock.advance(5)
    assert hold(jobs, job_id, "worker@one") == Lease(job_id, 1)
    job = jobs.get(job_id)
    assert (job.status, job.lease_owner, job.attempt) == (JobStatus.RUNNING, "worker@one", 1)
    assert job.started_at == clock.moment


def test_a_held_job_cannot_be_leased_until_its_lease_runs_out(jobs: Jobs, clock: Clock) -> None:
    job_id = create(jobs)
    first = hold(jobs, job_id)
    clock.advance(LEASE_SECONDS)
    assert jobs.lease(job_id, "b") is None
    clock.advance(0.001)
    second = hold(jobs, job_id, "b")
    assert second.token > first.token


def test_a_heartbeat_keeps_the_job(jobs: Jobs, clock: Clock) -> None:
    job_id = create(jobs)
    lease = hold(jobs, job_id)
    for _ in range(5):
        clock.advance(LEASE_SECONDS - 1)
        assert jobs.heartbeat(lease) is False
    assert jobs.lease(job_id, "b") is None


def test_the_first_start_is_remembered_over_attempts(jobs: Jobs, clock: Clock) -> None:
    job_id = create(jobs)
    hold(jobs, job_id)
    first = jobs.get(job_id).started_at
    clock.advance(LEASE_SECONDS + 1)
    hold(jobs, job_id, "b")
    assert jobs.get(job_id).started_at == first


@pytest.mark.parametrize("write", WRITES)
def test_a_write_with_a_stale_token_is_refused(jobs: Jobs, clock: Clock, write: str) -> None:
    job_id = create(jobs)
    stale = hold(jobs, job_id)
    clock.advance(LEASE_SECONDS + 1)
    hold(jobs, job_id, "b")
    before = row(jobs, job_id), messages(jobs, job_id)
    with pytest.raises(LeaseLostError, match="Lease 1 on job"):
        WRITES[write](jobs, stale)
    assert (row(jobs, job_id), messages(jobs, job_id)) == before


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_written_to_an_ended_job(jobs: Jobs, end: str, write: str) -> None:
    job_id = create(jobs)
    lease = hold(jobs, job_id)
    WRITES[end](jobs, lease)
    before = row(jobs, job_id), messages(jobs, job_id)
    with pytest.raises(LeaseLostError):
        WRITES[write](jobs, lease)
    assert (row(jobs, job_id), messages(jobs, job_id)) == before
    assert jobs.lease(job_id, "b") is None


@pytest.mark.parametrize("write", WRITES)
def test_a_released_lease_is_worth_nothing(jobs: Jobs, write: str) -> None:
    lease = hold(jobs, create(jobs))
    jobs.release(lease, "stopping", counts_as_attempt=True)
    with pytest.raises(LeaseLostError):
        WRITES[write](jobs, lease)


@pytest.mark.parametrize("end", ENDS)
def test_an_ended_job_says_how_and_when(jobs: Jobs, clock: Clock, end: str) -> None:
    job_id = create(jobs)
    lease = hold(jobs, job_id)
    clock.advance(9)
    WRITES[end](jobs, lease)
    job = jobs.get(job_id)
    assert (job.status, job.finished_at) == (ENDS[end], clock.moment)
    assert (job.lease_owner, job.lease_expires_at, job.eta_seconds) == (None, None, None)
    assert job.progress == (1.0 if end == "succeed" else 0.0)
    assert (job.error_code, job.error_detail) == (("broken", "It broke.") if end == "fail" else (None, None))
    assert messages(jobs, job_id)[-1] == ENDS[end]


def test_progress_and_checkpoint_outlive_the_attempt(jobs: Jobs, clock: Clock) -> None:
    job_id = create(jobs)
    lease = hold(jobs, job_id)
    jobs.report(lease, stage="finetune", progress=0.4, eta_seconds=12.0)
    jobs.save_checkpoint(lease, {"step": 1})
    jobs.save_checkpoint(lease, {"step": 2})
    clock.advance(LEASE_SECONDS + 1)
    hold(jobs, job_id, "b")
    job = jobs.get(job_id)
    assert (job.stage, job.progress, job.eta_seconds, job.checkpoint) == ("finetune", 0.4, 12.0, {"step": 2})


def test_a_stop_that_is_nobodys_fault_costs_no_attempt(jobs: Jobs) -> None:
    job_id = create(jobs)
    for _ in range(2 * MAX_ATTEMPTS):
        jobs.release(hold(jobs, job_id), "the worker stops", counts_as_attempt=False)
    assert (status(jobs, job_id), jobs.get(job_id).attempt) == (JobStatus.QUEUED, 0)


def test_the_last_failed_attempt_fails_the_job(jobs: Jobs) -> None:
    job_id = create(jobs)
    for _ in range(MAX_ATTEMPTS):
        jobs.release(hold(jobs, job_id), "the trainer died", counts_as_attempt=True)
    job = jobs.get(job_id)
    assert (job.status, job.error_code) == (JobStatus.FAILED, "attempts_exhausted")
    assert "attempt 1: the trainer died; attempt 2: the trainer died; attempt 3:" in (job.error_detail or "")


def test_a_released_job_is_due_for_a_ring_at_once(jobs: Jobs) -> None:
    job_id = create(jobs)
    jobs.mark_dispatched(job_id)
    jobs.release(hold(jobs, job_id), "stopping", counts_as_attempt=False)
    assert jobs.reap(redispatch_after_seconds=60) == [job_id]


def test_a_queued_job_is_cancelled_at_once(jobs: Jobs, clock: Clock) -> None:
    job_id = create(jobs)
    assert jobs.request_cancel(job_id).status == JobStatus.CANCELLED
    assert jobs.get(job_id).finished_at == clock.moment
    assert messages(jobs, job_id) == ["queued", "cancel requested", "cancelled"]


def test_a_running_job_is_cancelled_by_its_holder(jobs: Jobs) -> None:
    job_id = create(jobs)
    lease = hold(jobs, job_id)
    assert jobs.request_cancel(job_id).status == JobStatus.RUNNING
    assert jobs.heartbeat(lease) is True
    jobs.cancel(lease)
    assert status(jobs, job_id) == JobStatus.CANCELLED


def test_asking_twice_to_cancel_is_asking_once(jobs: Jobs) -> None:
    job_id = create(jobs)
    hold(jobs, job_id)
    jobs.request_cancel(job_id)
    before = messages(jobs, job_id)
    jobs.request_cancel(job_id)
    assert messages(jobs, job_id) == before


@pytest.mark.parametrize("end", ["succeed", "fail"])
def test_a_finished_job_cannot_be_cancelled(jobs: Jobs, end: str) -> None:
    job_id = create(jobs)
    WRITES[end](jobs, hold(jobs, job_id))
    with pytest.raises(ConflictError, match="has already"):
        jobs.request_cancel(job_id)


def test_a_job_that_finishes_before_it_hears_of_the_cancel_has_succeeded(jobs: Jobs) -> None:
    job_id = create(jobs)
    lease = hold(jobs, job_id)
    jobs.request_cancel(job_id)
    jobs.succeed(lease)
    assert status(jobs, job_id) == JobStatus.SUCCEEDED


def test_a_cancelled_job_is_not_leased_again_after_its_worker_vanished(jobs: Jobs, clock: Clock) -> None:
    job_id = create(jobs)
    hold(jobs, job_id)
    jobs.request_cancel(job_id)
    clock.advance(LEASE_SECONDS + 1)
    assert jobs.lease(job_id, "b") is None
    assert jobs.reap(redispatch_after_seconds=0) == []
    assert status(jobs, job_id) == JobStatus.CANCELLED


def test_a_job_given_back_after_a_cancel_was_asked_for_is_cancelled(jobs: Jobs) -> None:
    job_id = create(jobs)
    lease = hold(jobs, job_id)
    jobs.request_cancel(job_id)
    jobs.release(lease, "the worker stops", counts_as_attempt=False)
    assert status(jobs, job_id) == JobStatus.CANCELLED


def test_reap_names_only_quiet_jobs_that_wait(jobs: Jobs, clock: Clock) -> None:
    never_dispatched, dispatched_long_ago, dispatched_just_now, held, lapsed, ended = (create(jobs) for _ in range(6))
    jobs.succeed(hold(jobs, ended))
    hold(jobs, lapsed)
    jobs.mark_dispatched(dispatched_long_ago)
    clock.advance(LEASE_SECONDS + 1)
    jobs.mark_dispatched(dispatched_just_now)
    hold(jobs, held)
    assert set(jobs.reap(redispatch_after_seconds=10)) == {never_dispatched, dispatched_long_ago, lapsed}


def test_reap_names_the_oldest_first(jobs: Jobs, clock: Clock) -> None:
    created = []
    for _ in range(4):
        created.append(create(jobs))
        clock.advance(1)
    assert jobs.reap(redispatch_after_seconds=0) == created


def test_a_job_whose_workers_keep_vanishing_fails(jobs: Jobs, clock: Clock) -> None:
    job_id = create(jobs)
    for _ in range(MAX_ATTEMPTS):
        lease = hold(jobs, job_id)
        clock.advance(LEASE_SECONDS + 1)
    assert jobs.lease(job_id, "b") is None
    assert jobs.reap(redispatch_after_seconds=0) == []
    assert (status(jobs, job_id), jobs.get(job_id).error_code) == (JobStatus.FAILED, "attempts_exhausted")
    with pytest.raises(LeaseLostError):
        jobs.succeed(lease)


def test_events_are_read_in_order_from_any_point(jobs: Jobs, clock: Clock) -> None:
    job_id, other = create(jobs), create(jobs)
    lease = hold(jobs, job_id)
    for number in range(5):
        jobs.note(lease, f"note {number}", data={"number": number})
        jobs.add_event(other, "elsewhere")
    events = jobs.events(job_id)
    assert [event.message for event in events] == ["queued", "started", *(f"note {number}" for number in range(5))]
    assert sorted(event.id for event in events) == [event.id for event in events]
    assert list(jobs.events(job_id, after=events[3].id)) == list(events[4:])
    assert list(jobs.events(job_id, limit=2)) == list(events[:2])


@pytest.mark.parametrize("end", ["fail", "cancel"])
def test_a_data_set_fails_with_its_ingest_job(session: Session, jobs: Jobs, clock: Clock, end: str) -> None:
    dataset, _ = Datasets(session, clock).submit("digits", "0" * 64, DatasetOptions())
    WRITES[end](jobs, hold(jobs, dataset.job_id))
    session.refresh(dataset)
    assert dataset.state == DatasetState.FAILED


def test_a_data_set_fails_when_its_ingest_job_is_reaped(session: Session, jobs: Jobs, clock: Clock) -> None:
    dataset, _ = Datasets(session, clock).submit("digits", "0" * 64, DatasetOptions())
    for _ in range(MAX_ATTEMPTS):
        hold(jobs, dataset.job_id)
        clock.advance(LEASE_SECONDS + 1)
    jobs.reap(redispatch_after_seconds=0)
    session.refresh(dataset)
    assert dataset.state == DatasetState.FAILED


def test_a_patch_job_that_fails_touches_no_data_set(session: Session, jobs: Jobs, clock: Clock) -> None:
    dataset, _ = Datasets(session, clock).submit("digits", "0" * 64, DatasetOptions())
    jobs.fail(hold(jobs, create(jobs)), "broken", "It broke.")
    session.refresh(dataset)
    assert dataset.state == DatasetState.INGESTING
