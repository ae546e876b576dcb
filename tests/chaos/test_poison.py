"""A job that kills every trainer stops, and tells why; with real trainer processes."""

from tests.chaos.conftest import Bench


def test_a_job_that_kills_every_trainer_fails_with_each_cause_and_the_end_of_the_log(bench: Bench) -> None:
    patch = bench.submit("kill in select")
    bench.supervisor().run(patch.job_id)
    job, attempts = bench.job(patch.job_id), bench.attempts(patch.job_id)
    assert (job.status, job.attempt, job.error_code) == ("failed", 3, "attempts_exhausted")
    assert [(each.attempt, each.cause, each.stage) for each in attempts] == [
        (number, "trainer_killed", "select") for number in (1, 2, 3)
    ]
    assert (job.error_detail or "").count("signal 9 (SIGKILL), which the system sends when memory runs out") == 3
    assert [each.log_tail for each in attempts] == ["about to kill"] * 3
    assert bench.num_versions(job.id) == 0


def test_a_trainer_that_exits_by_itself_is_told_by_its_status(bench: Bench) -> None:
    patch = bench.submit("exit 3 in prepare")
    bench.supervisor().run(patch.job_id)
    assert [each.cause for each in bench.attempts(patch.job_id)] == ["trainer_exited"] * 3
    assert "exit status 3 in stage prepare" in (bench.job(patch.job_id).error_detail or "")


def test_a_job_that_does_well_has_one_attempt_and_no_log(bench: Bench) -> None:
    patch = bench.submit("well behaved")
    bench.supervisor().run(patch.job_id)
    (attempt,) = bench.attempts(patch.job_id)
    assert (attempt.cause, attempt.log_tail) == ("succeeded", None)
    assert bench.num_versions(patch.job_id) == 1
