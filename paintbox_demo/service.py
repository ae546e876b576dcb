"""The service that the demo talks to: the one that is running, or one that it starts and stops itself."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paintbox_client.client import Client
from paintbox_client.discovery import DEFAULT_URL, find_service
from paintbox_client.display import print_notice
from paintbox_client.errors import ClientError, ServiceUnreachableError

_START_SECONDS = 120.0
_STOP_SECONDS = 60.0


@contextmanager
def connect(url: str | None, api_key: str | None, data_dir: Path) -> Iterator[tuple[Client, bool]]:
    """Yield a client of a service that is ready, and whether the demo started that service.

    Args:
        url: The service to use; default: the one that runs on the data directory, else a new one.
        api_key: API key.
        data_dir: Data directory of a new service, which is stopped when the context ends.
    """
    running = url or find_service(data_dir)
    if running:
        with Client(running, api_key, on_outage=print_notice) as client:
            client.ready()
            yield client, False
        return
    with _start(data_dir) as started, Client(started, api_key, on_outage=print_notice) as client:
        yield client, True


@contextmanager
def _start(data_dir: Path) -> Iterator[str]:
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log_path = data_dir / "demo-up.log"
    command = [sys.executable, "-m", "paintbox_client", "up", "--data-dir", str(data_dir), "--port", str(port)]
    command.append("--stop-with-parent")  # however the demo ends
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_until_ready(url, process, log_path)
        yield url
    finally:
        _stop(process)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with Client(url) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                client.ready()
            except ClientError:
                time.sleep(0.3)
            else:
                return
    tail = log_path.read_text(errors="replace").strip().splitlines()[-3:]
    raise ServiceUnreachableError(
        url, "`paintbox up` printed: " + " / ".join(tail) if tail else "it does not become ready"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    preferred = int(DEFAULT_URL.rpartition(":")[2])
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("the system has no free port")
