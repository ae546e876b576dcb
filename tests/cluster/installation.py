"""An installation of several machines on one: real PostgreSQL, Valkey and S3, two API processes, three workers.

Every server comes from a wheel, has its own ports and folders, and is ended by its process id.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from paintbox_client.client import Client
from paintbox_client.errors import ClientError
from paintbox_launcher.embedded_valkey import EmbeddedValkey, free_port
from tests.registry.postgres import PostgresServer
from tests.registry.s3 import S3Server

NUM_WORKERS = 3
_READY_SECONDS = 180
_GRACE_SECONDS = 30


@dataclass(frozen=True)
class Process:
    """A started process and where it writes."""

    popen: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> None:
        self.popen.terminate()
        try:
            self.popen.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


@dataclass
class Replica:
    """An API process, which may be killed and started again at the same address."""

    name: str
    port: int
    client: Client
    process: Process | None = None


@dataclass
class Cluster:
    """What a test holds of the installation."""

    folder: Path
    environment: Mapping[str, str]
    stack: ExitStack
    replicas: tuple[Replica, ...] = ()
    workers: list[Process] = field(default_factory=list)

    def spawn(self, name: str, command: list[str], **environment: str) -> Process:
        """A process with a data directory of its own, as on a machine of its own."""
        log = self.folder / f"{name}.log"
        own = {"PAINTBOX_DATA_DIR": str(self.folder / name), **environment}
        with log.open("ab") as output:
            popen = subprocess.Popen(command, stdout=output, stderr=output, env={**self.environment, **own})
        process = Process(popen, log)
        self.stack.callback(process.stop)
        return process

    def start_replica(self, replica: Replica) -> None:
        replica.process = self.spawn(replica.name, [sys.executable, "-m", "app"], PAINTBOX_PORT=str(replica.port))

    def start_worker(self, name: str) -> None:
        self.workers.append(self.spawn(name, [sys.executable, "-m", "worker"]))

    def wait_until_ready(self, replica: Replica) -> None:
        assert replica.process is not None
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            assert replica.process.popen.poll() is None, replica.process.tail()
            with suppress(ClientError):
                replica.client.ready()
                return
            time.sleep(0.2)
        raise AssertionError(replica.process.tail())

    def logs(self) -> str:
        """The last words of every process, for a failure's message."""
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in self._log_files())

    def _log_files(self) -> list[Path]:
        return sorted([*self.folder.glob("*.log"), *self.folder.glob("worker-*/logs/jobs/*.log")])


@contextmanager
def open_cluster(folder: Path) -> Iterator[Cluster]:
    """A running installation; everything that was started has ended when the context ends."""
    with ExitStack() as stack:
        postgres = PostgresServer()
        stack.callback(postgres.stop)
        (folder / "s3").mkdir()
        s3 = S3Server(folder / "s3")
        stack.callback(s3.stop)
        valkey = _start_valkey(folder, stack)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PAINTBOX_")}
        environment = {
            **inherited,
            **s3.environment,
            "OMP_NUM_THREADS": "1",  # seven processes share the machine
            "PAINTBOX_DATABASE_URL": postgres.url(postgres.create_database()),
            "PAINTBOX_BROKER_URL": valkey.url,
            "PAINTBOX_BLOB_URL": s3.new_url(),
            "PAINTBOX_DEVICE": "cpu",
            "PAINTBOX_REDISPATCH_AFTER_SECONDS": "2",
            "PAINTBOX_REPLICA_INTERVAL_SECONDS": "1",  # so that the replica that is killed soon counts as gone
            "PAINTBOX_CANARY_SHARE": "0.5",
            "PAINTBOX_SHADOW_SHARE": "1",
        }
        cluster = Cluster(folder, environment, stack)
        cluster.replicas = tuple(_replica(name, stack) for name in ("api-a", "api-b"))
        for replica in cluster.replicas:  # all at once: they agree on who migrates and who registers the base
            cluster.start_replica(replica)
        for number in range(NUM_WORKERS):
            cluster.start_worker(f"worker-{number}")
        for replica in cluster.replicas:
            cluster.wait_until_ready(replica)
        yield cluster


def _replica(name: str, stack: ExitStack) -> Replica:
    port = free_port("127.0.0.1")
    return Replica(name, port, stack.enter_context(Client(f"http://127.0.0.1:{port}")))


def _start_valkey(folder: Path, stack: ExitStack) -> EmbeddedValkey:
    valkey = EmbeddedValkey(folder / "valkey")
    child = valkey.child(folder / "valkey.log", os.environ)
    assert child.prepare is not None
    child.prepare(0)
    with child.log_path.open("wb") as log:
        process = Process(subprocess.Popen(child.command, stdout=log, stderr=log), child.log_path)
    stack.callback(process.stop)
    deadline = time.monotonic() + _GRACE_SECONDS
    while not valkey.answers():
        assert time.monotonic() < deadline, process.tail()
        time.sleep(0.05)
    return valkey
