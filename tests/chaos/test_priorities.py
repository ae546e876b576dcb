"""A worker takes the waiting job of the highest priority, not the dispatched one; with real trainer processes."""

import threading

from sqlalchemy import update

from contract.jobs import Priority
from registry.tables import JobRow
from tests.chaos.conftest import Bench


def prioritise(bench: Bench, job_id: str, priority: Priority) -> None:
    with bench.database.write() as session:
        session.execute(update(JobRow).where(JobRow.id == job_id).values(priority=priority))


def test_one_ring_is_answered_with_every_job_that_waits_the_best_first(bench: Bench) -> None:
    jobs = {priority: bench.submit(f"{priority.label}", iterations=1).job_id for priority in Priority}
    for priority, job_id in jobs.items():
        prioritise(bench, job_id, priority)
    bench.supervisor().answer()
    started = {priority: bench.attempts(job_id)[0].started_at for priority, job_id in jobs.items()}
    assert sorted(started, key=lambda priority: started[priority]) == [Priority.HIGH, Priority.NORMAL, Priority.LOW]
    assert all(bench.job(job_id).status == "succeeded" for job_id in jobs.values())
    bench.supervisor().answer()  # a superfluous message finds nothing to do
    assert all(len(bench.attempts(job_id)) == 1 for job_id in jobs.values())


def test_a_worker_that_stops_takes_no_further_job(bench: Bench) -> None:
    first, second = bench.submit("stay in finetune"), bench.submit("well behaved")
    stop = threading.Event()
    working = threading.Thread(target=bench.supervisor(stop.is_set).answer)
    working.start()
    while bench.job(first.job_id).stage != "finetune":
        working.join(0.05)
    stop.set()
    working.join(5)
    assert not working.is_alive()
    assert (bench.job(first.job_id).status, bench.job(first.job_id).attempt) == ("queued", 0)
    assert bench.attempts(second.job_id) == []
