"""`paintbox up` with every real process, in a temporary data directory."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from paintbox_client.client import Client
from paintbox_client.errors import ClientError

READY_SECONDS = 90


@dataclass(frozen=True)
class Service:
    """A running installation."""

    client: Client
    data_dir: Path
    process: subprocess.Popen[bytes]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_service(data_dir: Path, port: int | None = None, **variables: str) -> Service:
    port = port or free_port()
    command = [str(Path(sys.executable).with_name("paintbox")), "up", "--port", str(port), "--data-dir", str(data_dir)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAINTBOX_")}
    environment["PAINTBOX_REDISPATCH_AFTER_SECONDS"] = (
        "1"  # how soon the reaper dispatches a job again whose message was lost
    )
    environment["XDG_STATE_HOME"] = str(data_dir.parent / "state")
    environment |= variables
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.out").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
    service = Service(Client(f"http://127.0.0.1:{port}"), data_dir, process)
    try:
        wait_until_ready(service)
    except BaseException:
        process.kill()
        raise
    return service


def wait_until_ready(service: Service) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert service.process.poll() is None, (service.data_dir / "up.out").read_text()
        try:
            service.client.ready()
        except ClientError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"not ready in {READY_SECONDS} s: " + (service.data_dir / "up.out").read_text())


def stop_service(service: Service) -> int:
    service.client.close()
    service.process.send_signal(signal.SIGTERM)
    return service.process.wait(timeout=60)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = start_service(tmp_path_factory.mktemp("installation") / "data")
    yield running
    stop_service(running)
