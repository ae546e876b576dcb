"""What a job tells of its attempts, over HTTP."""

from datetime import timedelta
from typing import Any

from contract.jobs import AttemptCause, JobKind
from registry.database import utc_now
from registry.jobs import Jobs
from tests.app.world import World


def _poisoned(world: World) -> dict[str, Any]:
    """A job whose trainers died three times."""
    with world.services.database.write() as session:
        jobs = Jobs(session)
        job_id = jobs.create(JobKind.PATCH, "pt_test").id
        for number in range(3):
            lease = jobs.lease(job_id, "a test")
            assert lease is not None
            jobs.report(lease, stage="finetune", progress=0.1, eta_seconds=None)
            why = "the trainer ended with signal 9"
            killed = AttemptCause.TRAINER_KILLED
            jobs.release(lease, why, counts_as_attempt=True, cause=killed, log_tail=f"Traceback {number}")
    answer: dict[str, Any] = world.client.get(f"/v1/jobs/{job_id}").json()
    return answer


def test_a_poison_job_tells_the_cause_of_each_attempt_and_the_end_of_its_log(world: World) -> None:
    job = _poisoned(world)
    assert (job["status"], job["error"]["code"]) == ("failed", "attempts_exhausted")
    assert job["error"]["detail"].count("signal 9") == 3
    assert [(each["attempt"], each["cause"], each["stage"]) for each in job["attempts"]] == [
        (number, "trainer_killed", "finetune") for number in (1, 2, 3)
    ]
    assert all(each["started_at"] <= each["ended_at"] for each in job["attempts"])
    assert all(each["detail"] == "the trainer ended with signal 9" for each in job["attempts"])
    assert job["log_tail"] == "Traceback 2"


def test_a_job_that_nobody_has_tried_has_no_attempts_and_no_log(world: World) -> None:
    with world.services.database.write() as session:
        job_id = Jobs(session).create(JobKind.PATCH, "pt_test").id
    job = world.client.get(f"/v1/jobs/{job_id}").json()
    assert (job["attempts"], job["log_tail"]) == ([], None)


def test_a_list_of_jobs_leaves_attempts_and_logs_out(world: World) -> None:
    _poisoned(world)
    item = world.client.get("/v1/jobs?limit=1").json()["items"][0]
    assert not {"attempts", "log_tail"} & item.keys()


def test_a_job_tells_when_its_trainer_last_reported_and_until_when_it_pauses(world: World) -> None:
    with world.services.database.write() as session:
        jobs = Jobs(session)
        job_id = jobs.create(JobKind.PATCH, "pt_test").id
        lease = jobs.lease(job_id, "a test")
        assert lease is not None
        jobs.heartbeat(lease, heard=True)
        cause = AttemptCause.DISK_FULL
        jobs.release(lease, "The disk is full.", counts_as_attempt=False, cause=cause, pause_seconds=3_600)
    job = world.client.get(f"/v1/jobs/{job_id}").json()
    assert job["progress_at"] > job["created_at"]
    assert job["paused_until"] > job["attempts"][0]["ended_at"]
    assert (job["status"], job["attempts"][0]["cause"], job["error"]) == ("queued", "disk_full", None)
    world.client.post(f"/v1/jobs/{job_id}/cancel")


def test_readiness_says_when_jobs_wait_and_no_worker_takes_any(world: World) -> None:
    def check() -> dict[str, Any]:
        answer: dict[str, Any] = world.client.get("/readyz").json()["checks"]["jobs"]
        return answer

    assert check()["ok"] is True
    long_ago = utc_now() - timedelta(minutes=5)
    with world.services.database.write() as session:
        job_id = Jobs(session, lambda: long_ago).create(JobKind.PATCH, "pt_test").id
    assert check()["ok"] is False
    assert "no worker takes jobs" in check()["detail"]
    with world.services.database.write() as session:
        assert Jobs(session).lease(job_id, "a worker") is not None
    assert check()["ok"] is True
