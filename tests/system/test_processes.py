"""`paintbox up` with several API processes on one port."""

import os
import signal
import socket
import time
from pathlib import Path

import httpx2

from tests.app.test_processes import port_with_free_ones_after_it
from tests.system.conftest import start_service, stop_service

START_SECONDS = 60.0


def processes(port: int) -> set[int]:
    """Process numbers of those that serve, as they say on their own ports."""
    found = set()
    for own in (port + 1, port + 2):
        try:
            system = httpx2.get(f"http://127.0.0.1:{own}/v1/system", timeout=10).json()
        except httpx2.TransportError:
            continue
        found |= {int(each["host"].rpartition(":")[2]) for each in system.get("replicas", ()) if each["is_this"]}
    return found


def wait_for_two(port: int, gone: int = 0) -> set[int]:
    deadline = time.monotonic() + START_SECONDS
    while len(found := processes(port) - {gone}) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_up_starts_as_many_processes_as_are_asked_for_and_one_that_dies_again(tmp_path: Path) -> None:
    port = port_with_free_ones_after_it()
    service = start_service(tmp_path / "data", port, PAINTBOX_PROCESSES="2")
    try:
        first = wait_for_two(port)
        killed = min(first)
        os.kill(killed, signal.SIGKILL)
        assert service.client.system()["serving_version"] == 1
        assert len(wait_for_two(port, gone=killed) & first) == 1
    finally:
        assert stop_service(service) == 0
    for each in range(port, port + 3):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", each)) != 0
