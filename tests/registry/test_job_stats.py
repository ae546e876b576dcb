"""Figures about jobs, on both engines."""

from contract.jobs import JobKind, JobStatus
from registry.database import Database
from registry.job_stats import JobStats
from registry.jobs import Jobs
from registry.patches import Patches
from tests.builders import small_report
from tests.registry.clock import Clock
from tests.registry.rows import add_base, add_version, ready_dataset, request


def test_jobs_are_counted_by_kind_and_status(database: Database, clock: Clock) -> None:
    with database.write() as session:
        jobs = Jobs(session, clock)
        made = [jobs.create(JobKind.PATCH, "pt_1").id for _ in range(3)]
        jobs.create(JobKind.INGEST, "ds_1")
        jobs.lease(made[0], "a worker")
        jobs.request_cancel(made[1])
        assert JobStats(session).counts() == {
            ("patch", "queued"): 1,
            ("patch", "running"): 1,
            ("patch", "cancelled"): 1,
            ("ingest", "queued"): 1,
        }


def test_a_lease_that_lapsed_is_named_until_somebody_takes_the_job_over(database: Database, clock: Clock) -> None:
    with database.write() as session:
        jobs, figures = Jobs(session, clock), JobStats(session, clock)
        job_id = jobs.create(JobKind.PATCH, "pt_1").id
        lease = jobs.lease(job_id, "a worker", 10)
        assert lease is not None
        assert figures.lapsed_leases() == frozenset()
        clock.advance(11)
        assert figures.lapsed_leases() == {(job_id, lease.token)}
        assert jobs.lease(job_id, "another", 10)
        assert figures.lapsed_leases() == frozenset()


def test_jobs_that_ended_tell_how_long_they_ran(database: Database, clock: Clock) -> None:
    started = clock()
    with database.write() as session:
        jobs = Jobs(session, clock)
        job_id, waiting = (jobs.create(JobKind.PATCH, "pt_1").id for _ in range(2))
        lease = jobs.lease(job_id, "a worker")
        assert lease is not None
        clock.advance(12.5)
        jobs.succeed(lease)
        jobs.request_cancel(waiting)
    with database.read() as session:
        figures = JobStats(session)
        found = {job.id: (job.status, job.run_seconds, job.finished_at) for job in figures.ended_since(started)}
        assert found == {
            job_id: (JobStatus.SUCCEEDED, 12.5, clock()),
            waiting: (JobStatus.CANCELLED, None, clock()),
        }
        clock.advance(1)
        assert figures.ended_since(clock()) == []


def test_stages_are_those_of_the_patchs_report(database: Database) -> None:
    with database.write() as session:
        add_base(session)
        patch = Patches(session).submit(request(ready_dataset(session, "a").id), "starter")
        figures = JobStats(session)
        assert figures.stage_seconds(patch.job_id) == {}
        report = small_report(timings_seconds={"prepare": 1.5, "finetune": 20.0})
        Patches(session).complete(patch.id, version_id=add_version(session).id, report=report)
        session.flush()
        assert figures.stage_seconds(patch.job_id) == {"prepare": 1.5, "finetune": 20.0}
        assert figures.stage_seconds("job_nothing") == {}
