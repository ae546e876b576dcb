"""Trainers that hang, flood or babble, and a database that goes away: what is left of it in the registry."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from registry.blobs import FileBlobStore
from registry.database import Database
from registry.errors import LeaseLostError
from registry.jobs import Jobs
from registry.leases import Lease
from registry.tables import JobEventRow
from tests.chaos.conftest import Bench
from tests.chaos.stub import TRAINER
from worker.messages import Failure
from worker.process import TrainerProcess
from worker.supervisor import Supervisor
from worker.watch import MOST_NOTES, Watch

TOLD = (
    "import json, sys, time, signal, os\ndef tell(kind, **fields):\n    print(json.dumps([kind, fields]), flush=True)\n"
)


class FlakyDatabase(Database):
    """A database that does not answer so many writes; `refuse` counts them down."""

    refuse = 0

    @contextmanager
    def write(self) -> Iterator[Session]:
        if self.refuse > 0:
            self.refuse -= 1
            raise OperationalError("INSERT", {}, Exception("database or disk is full"))
        with super().write() as session:
            yield session


def work(bench: Bench, code: str, is_stopping: Callable[[], bool] = lambda: False, **settings: object) -> str:
    """Let a supervisor work on a new job with a trainer that runs this code; return the job's id."""
    patch = bench.submit("a patch")
    settled = bench.settings.model_copy(update={"heartbeat_seconds": 0.1} | settings)
    Supervisor(settled, is_stopping=is_stopping, trainer=(sys.executable, "-c", TOLD + code)).run(patch.job_id)
    return patch.job_id


def events(bench: Bench, job_id: str, after: int = 0) -> list[JobEventRow]:
    with bench.database.read() as session:
        return list(Jobs(session).events(job_id, after, limit=10_000))


def log_of(bench: Bench, job_id: str) -> Path:
    return bench.settings.log_dir / "jobs" / f"{job_id}.log"


def test_a_trainer_that_gives_no_sign_is_ended_and_tried_again_and_named_as_stalled(bench: Bench) -> None:
    code = "tell('Progress', stage='finetune', progress=0.1, eta_seconds=None)\ntime.sleep(600)"
    job_id = work(bench, code, stall_limit_seconds=0.5)
    job = bench.job(job_id)
    assert (job.status, job.error_code) == ("failed", "attempts_exhausted")
    assert [each.cause for each in bench.attempts(job_id)] == ["trainer_stalled"] * 3
    assert "showed no activity" in (job.error_detail or "")


def test_a_stopped_process_stalls_too_and_its_silence_is_dated(bench: Bench) -> None:
    job_id = work(bench, "tell('Note', message='here')\nos.kill(os.getpid(), signal.SIGSTOP)", stall_limit_seconds=1.0)
    job, attempts = bench.job(job_id), bench.attempts(job_id)
    assert [each.cause for each in attempts] == ["trainer_stalled"] * 3
    assert job.progress_at is not None
    assert attempts[-1].ended_at is not None
    assert (attempts[-1].ended_at - job.progress_at).total_seconds() >= 0.5


def test_a_trainer_that_says_it_is_alive_is_not_stalled(bench: Bench) -> None:
    code = "for _ in range(15):\n    tell('Alive')\n    time.sleep(0.1)\ntell('Failure', code='over', detail='done')"
    assert bench.job(work(bench, code, stall_limit_seconds=0.8)).error_code == "over"


@pytest.mark.parametrize(
    "code",
    [
        "print('no message at all', flush=True)\ntime.sleep(600)",
        "tell('Progress', stage=[1], progress={}, eta_seconds=None)\ntime.sleep(600)",
        "tell('Teapot')\ntime.sleep(600)",
        "block = 'x' * (1 << 20)\nwhile True:\n    sys.stdout.write(block)",
        "print('[' * 100000, flush=True)\ntime.sleep(600)",
    ],
    ids=["no JSON", "other types", "another kind", "an endless line", "nested"],
)
def test_what_is_no_message_ends_the_attempt_with_its_cause_and_not_the_worker(bench: Bench, code: str) -> None:
    job = bench.job(work(bench, code))
    assert (job.status, job.error_code) == ("failed", "attempts_exhausted")
    assert (job.error_detail or "").count("the trainer sent an invalid message") == 3


def test_a_trainer_that_prints_endlessly_fills_no_disk(bench: Bench) -> None:
    patch = bench.submit("a patch")
    with bench.database.write() as session:
        lease = Jobs(session).lease(patch.job_id, "a test", 600)
    assert lease is not None
    code = "while True:\n    sys.stderr.write('y' * 1000 + '\\n')"
    path, most = log_of(bench, patch.job_id), 1 << 20
    with TrainerProcess(bench.settings, lease, (sys.executable, "-c", TOLD + code), max_log_bytes=most) as trainer:
        for _ in range(5):
            while path.stat().st_size <= most:
                time.sleep(0.005)
            trainer.bound_log()
        tail = trainer.log_tail()
    assert path.with_suffix(".log.1").stat().st_size == most
    assert len(tail) <= 16_384
    with bench.database.write() as session:
        Jobs(session).fail(lease, "over", "done")


def test_a_disk_that_is_full_sets_the_job_back_and_it_goes_on_after_a_pause(bench: Bench) -> None:
    code = "tell('Setback', cause='disk_full', detail='The disk is full.')"
    job_id = work(bench, code)
    job, (attempt,) = bench.job(job_id), bench.attempts(job_id)
    assert (job.status, job.attempt, job.num_setbacks, attempt.cause) == ("queued", 0, 1, "disk_full")
    assert job.paused_until is not None
    assert attempt.ended_at is not None
    assert (job.paused_until - attempt.ended_at).total_seconds() == pytest.approx(30, abs=1)
    assert not [each for each in events(bench, job_id) if each.level == "error"]
    with bench.database.write() as session:
        Jobs(session).request_cancel(job_id)


def test_a_job_that_is_set_back_again_and_again_fails_with_that_cause(bench: Bench) -> None:
    patch = bench.submit("a patch")
    with bench.database.write() as session:
        Jobs(session).get(patch.job_id).num_setbacks = 20
    code = "tell('Setback', cause='store_unavailable', detail='The store is away.')"
    Supervisor(bench.settings, trainer=(sys.executable, "-c", TOLD + code)).run(patch.job_id)
    job = bench.job(patch.job_id)
    assert (job.status, job.error_code) == ("failed", "store_unavailable")


def hold(bench: Bench, seconds: float) -> Lease:
    patch = bench.submit("a patch")
    with bench.database.write() as session:
        lease = Jobs(session).lease(patch.job_id, "a test", seconds)
    assert lease is not None
    return lease


def watch(
    bench: Bench,
    database: Database,
    lease: Lease,
    code: str,
    *,
    lease_seconds: float = 30.0,
    most_notes: int = MOST_NOTES,
) -> object:
    settings = bench.settings.model_copy(update={"heartbeat_seconds": 0.1, "lease_seconds": lease_seconds})
    watched = Watch(database, FileBlobStore(settings.blob_dir), settings, lease, lambda: False, most_notes)
    with TrainerProcess(settings, lease, (sys.executable, "-c", TOLD + code)) as trainer:
        return watched.follow(trainer)


def test_endless_notes_become_a_bounded_number_of_events(bench: Bench) -> None:
    lease = hold(bench, 600)
    code = "for n in range(1000):\n    tell('Note', message='again', data=dict(n=n))\n"
    ending = "tell('Failure', code='over', detail='done')"
    assert watch(bench, bench.database, lease, code + ending, most_notes=20) == Failure("over", "done")
    told = [each.message for each in events(bench, lease.job_id)]
    assert told.count("again") == 20
    assert told[-1] == "further events of this attempt are omitted"
    with bench.database.write() as session:
        Jobs(session).fail(lease, "over", "done")


SPEAKS = """
for n in range(5):
    tell('Note', message=f'note {n}')
    tell('Checkpoint', value=dict(step=n))
    time.sleep(0.02)
tell('Failure', code='over', detail='done')
"""


def test_notes_and_checkpoints_wait_for_a_database_that_comes_back_and_none_is_lost(bench: Bench) -> None:
    lease, database = hold(bench, 30), FlakyDatabase(bench.settings.resolved_database_url)
    database.refuse = 6
    assert watch(bench, database, lease, SPEAKS) == Failure("over", "done")
    notes = [each.message for each in events(bench, lease.job_id) if each.message.startswith("note ")]
    assert notes == [f"note {number}" for number in range(5)]
    assert bench.job(lease.job_id).checkpoint == {"step": 4}
    with bench.database.write() as session:
        Jobs(session).fail(lease, "over", "done")


def test_a_database_that_stays_away_ends_the_attempt_once_its_lease_has(bench: Bench) -> None:
    lease, database = hold(bench, 600), FlakyDatabase(bench.settings.resolved_database_url)
    database.refuse = 10**9
    with pytest.raises(LeaseLostError):
        watch(bench, database, lease, SPEAKS + "time.sleep(600)", lease_seconds=0.5)
    with bench.database.write() as session:
        Jobs(session).fail(lease, "over", "done")


def test_a_worker_that_stops_asks_its_trainer_first_and_takes_what_it_says_meanwhile(bench: Bench) -> None:
    code = """
def go(*_):
    tell('Checkpoint', value=dict(step=7))
    sys.exit(0)
signal.signal(signal.SIGTERM, go)
tell('Note', message='ready')
while True:
    time.sleep(0.1)
"""
    stop = threading.Event()
    patch = bench.submit("a patch")
    trainer = (sys.executable, "-c", TOLD + code)
    supervisor = Supervisor(bench.settings, is_stopping=stop.is_set, trainer=trainer)
    working = threading.Thread(target=supervisor.run, args=(patch.job_id,))
    working.start()
    while not any(each.message == "ready" for each in events(bench, patch.job_id)):
        working.join(0.05)
        assert working.is_alive()
    stop.set()
    working.join(30)
    job, (attempt,) = bench.job(patch.job_id), bench.attempts(patch.job_id)
    assert (job.status, job.attempt, job.checkpoint, attempt.cause) == ("queued", 0, {"step": 7}, "worker_stopped")
    with bench.database.write() as session:
        Jobs(session).request_cancel(patch.job_id)


def test_a_worker_that_is_drained_finishes_its_job_and_takes_no_other(bench: Bench) -> None:
    first, second = bench.submit("well behaved"), bench.submit("another one")

    def is_draining() -> bool:
        return bench.job(first.job_id).status != "queued"  # as soon as the first is taken

    Supervisor(bench.settings, is_draining=is_draining, trainer=TRAINER, launch=bench.forks.launch).answer()
    assert bench.job(first.job_id).status == "succeeded"
    assert bench.job(second.job_id).status == "queued"
    with bench.database.write() as session:
        Jobs(session).request_cancel(second.job_id)


def test_no_transaction_is_open_while_the_end_of_the_log_is_read(bench: Bench) -> None:
    patch = bench.submit("a patch")
    hostile = "sys.stderr.write('a' * 60 + '://' + ':' * 60000)\ntell('Failure', code='over', detail='x')"
    started = time.monotonic()
    Supervisor(bench.settings, trainer=(sys.executable, "-c", TOLD + hostile)).run(patch.job_id)
    assert bench.job(patch.job_id).error_code == "over"
    assert time.monotonic() - started < 60
    assert len(bench.attempts(patch.job_id)[0].log_tail or "") <= 16_384
