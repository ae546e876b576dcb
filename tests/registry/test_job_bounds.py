"""Whatever a trainer tells, the registry stores it on both engines, and not much of it."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from contract.jobs import MAX_ATTEMPTS, AttemptCause, JobKind
from registry.attempts import Attempts
from registry.database import Database
from registry.job_stats import JobStats
from registry.jobs import Jobs
from registry.leases import Lease
from registry.tables import JobAttemptRow
from tests.registry.clock import Clock

HOSTILE = "a\x00b\x1b[2J\ud800"


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.write() as session:
        yield session


@pytest.fixture
def jobs(session: Session, clock: Clock) -> Jobs:
    return Jobs(session, clock)


def hold(jobs: Jobs, kind: JobKind = JobKind.PATCH) -> Lease:
    lease = jobs.lease(jobs.create(kind, "pt_1").id, "host:7")
    assert lease is not None
    return lease


def test_a_cause_of_twenty_million_characters_with_nul_is_stored_cleaned_and_short(jobs: Jobs) -> None:
    lease = hold(jobs)
    jobs.fail(lease, "bad_table", HOSTILE + "x" * 20_000_000, HOSTILE + "y" * 1_000_000 + HOSTILE)
    job = jobs.get(lease.job_id)
    assert (job.error_detail or "").startswith("ab[2Jx")
    assert len(job.error_detail or "") <= 2_000
    (attempt,) = Attempts(jobs._session).all(lease.job_id)
    assert len(attempt.detail or "") <= 2_000
    assert len(attempt.log_tail or "") <= 16_384
    assert (attempt.log_tail or "").endswith("yab[2J")
    event = jobs.events(lease.job_id)[-1]
    assert len(str(event.data)) < 3_000


def test_notes_and_progress_of_any_kind_are_stored(jobs: Jobs) -> None:
    lease = hold(jobs)
    jobs.note(lease, HOSTILE * 1_000, "a level that is none", {"loss": float("nan"), "text": HOSTILE})
    jobs.note(lease, "large", data={"rows": ["x" * 100] * 1_000})
    jobs.report(lease, stage="a stage " * 100, progress=float("nan"), eta_seconds=float("inf"))
    jobs.release(lease, HOSTILE * 10_000, counts_as_attempt=True)
    jobs._session.flush()
    notes = jobs.events(lease.job_id)[-3:]
    assert (len(notes[0].message), notes[0].level, notes[0].data) == (313, "info", {"loss": None, "text": "ab[2J"})
    assert list(notes[1].data or {}) == ["left_out_bytes"]
    job = jobs.get(lease.job_id)
    assert (len(job.stage or ""), job.progress, job.eta_seconds) == (32, 0.0, None)


def test_a_setback_uses_up_no_attempt_and_nobody_takes_the_job_before_its_pause_is_over(
    jobs: Jobs, clock: Clock
) -> None:
    lease = hold(jobs)
    jobs.release(lease, "full", counts_as_attempt=False, cause=AttemptCause.DISK_FULL, pause_seconds=60)
    job = jobs.get(lease.job_id)
    assert (job.status, job.attempt, job.num_setbacks) == ("queued", 0, 1)
    assert not jobs.has_free()
    assert jobs.lease_best("another") is None
    assert jobs.reap(redispatch_after_seconds=0) == []
    assert JobStats(jobs._session, clock).longest_wait_seconds() == 0
    clock.advance(61)
    assert jobs.has_free()
    assert jobs.reap(redispatch_after_seconds=0) == [lease.job_id]
    again = jobs.lease_best("another")
    assert again is not None
    jobs.save_checkpoint(again, {"step": 1})
    assert jobs.get(lease.job_id).num_setbacks == 0  # it got somewhere


def test_a_worker_takes_only_the_kinds_of_jobs_that_it_is_for(jobs: Jobs, clock: Clock) -> None:
    patch = jobs.create(JobKind.PATCH, "pt_1").id
    clock.advance(1)
    ingest = jobs.create(JobKind.INGEST, "ds_1").id
    assert not jobs.has_free([JobKind.FINETUNE])
    taken = [jobs.lease_best("w", kinds=kinds) for kinds in ([JobKind.FINETUNE], [JobKind.INGEST], [JobKind.PATCH])]
    assert [each and each.job_id for each in taken] == [None, ingest, patch]


def test_attempts_are_numbered_on_after_a_stop_of_the_worker_and_in_the_cause(session: Session, jobs: Jobs) -> None:
    lease = hold(jobs)
    jobs.release(lease, "the worker is shutting down", counts_as_attempt=False)
    for _ in range(MAX_ATTEMPTS):
        again = jobs.lease(lease.job_id, "host:7")
        assert again is not None
        jobs.release(again, "it died", counts_as_attempt=True)
    assert [row.token for row in Attempts(session).all(lease.job_id)] == [1, 2, 3, 4]
    assert "attempt 2: it died; attempt 3: it died; attempt 4: it died" in (jobs.get(lease.job_id).error_detail or "")


def test_of_very_many_attempts_the_last_hundred_are_told(session: Session, jobs: Jobs, clock: Clock) -> None:
    job_id = jobs.create(JobKind.PATCH, "pt_1").id
    for token in range(1, 122):
        session.add(JobAttemptRow(job_id=job_id, token=token, attempt=1, worker="host:7", started_at=clock()))
    session.flush()
    assert [row.token for row in Attempts(session).all(job_id)] == list(range(22, 122))


def test_how_long_jobs_wait_and_are_silent_is_measured_from_the_right_moments(jobs: Jobs, clock: Clock) -> None:
    figures = JobStats(jobs._session, clock)
    assert (figures.longest_wait_seconds(), figures.longest_silence_seconds()) == (0, 0)
    first = jobs.create(JobKind.PATCH, "pt_1").id
    clock.advance(50)
    assert figures.longest_wait_seconds() == 50
    lease = jobs.lease(first, "host:7", seconds=1_000)
    assert lease is not None
    clock.advance(20)
    jobs.heartbeat(lease, 1_000)
    assert (figures.longest_wait_seconds(), figures.longest_silence_seconds(), figures.num_held()) == (0, 20, 1)
    jobs.heartbeat(lease, 1_000, heard=True)
    assert figures.longest_silence_seconds() == 0
    jobs.release(lease, "the worker is shutting down", counts_as_attempt=False)
    clock.advance(5)
    assert figures.longest_wait_seconds() == 5  # since it waits again, not since it was asked for
    assert figures.num_held() == 0


def test_an_error_of_the_database_does_not_tell_the_values_of_the_row(database: Database) -> None:
    with pytest.raises(DBAPIError) as caught, database.write() as session:
        session.execute(text("INSERT INTO no_such_table VALUES (:url)"), {"url": "https://hooks/secret"})
    assert "secret" not in str(caught.value)
