"""Servers as real processes: started, waited for, held still while another one is measured, stopped."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from _serving.client import CHECKOUT

_START_SECONDS = 120.0
_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Command:
    """How to start a server, and how to ask it.

    Attributes:
        name: In the tables.
        arguments: Of the process; `{port}` stands for its port.
        ready: Path that answers 200 once it serves.
        path: Path that classifies.
        variables: Environment to add; `{port}` stands for the port.
        image_field: Name of the form's field that holds the images.
        takes_labels: Whether labels and `top_k` come with each request; if not, the server knows them already.
        num_processes: That share the port; if several, each must be ready on a port of its own, which follow it.
    """

    name: str
    arguments: tuple[str, ...]
    ready: str
    path: str
    variables: Mapping[str, str] = field(default_factory=dict)
    image_field: str = "images"
    takes_labels: bool = True
    num_processes: int = 1

    def ports(self, port: int) -> range:
        """Return the ports on which its processes must be ready."""
        return range(port, port + 1) if self.num_processes == 1 else range(port + 1, port + 1 + self.num_processes)


@dataclass(frozen=True)
class Running:
    """A server that runs.

    Attributes:
        command: How it was started.
        port: Where it listens.
        process: Its first process.
        started_in: Seconds from the start of the process until it served.
        log: What it writes to both its outputs.
    """

    command: Command
    port: int
    process: psutil.Process
    started_in: float
    log: Path

    def pause(self) -> None:
        """Hold all its processes still."""
        for process in _tree(self.process):
            process.suspend()

    def go_on(self) -> None:
        """Let them run again."""
        for process in _tree(self.process):
            process.resume()

    def resident_bytes(self) -> int:
        """Return the memory of all its processes."""
        return sum(process.memory_info().rss for process in _tree(self.process))

    def cpu_seconds(self) -> float:
        """Return the processor time of all its processes so far."""
        return sum(sum(process.cpu_times()[:2]) for process in _tree(self.process))


@contextmanager
def serve(command: Command, log: Path) -> Iterator[Running]:
    """Start a server, wait until it is ready, and yield it.

    Args:
        command: What to start.
        log: File for what it writes.

    Yields:
        Running: It is stopped when the context ends.

    Raises:
        SystemExit: It ended, or is not ready within two minutes; the message names the log.
    """
    port = free_port(following=command.num_processes if command.num_processes > 1 else 0)
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [argument.replace("{port}", str(port)) for argument in command.arguments],
            cwd=log.parent,
            env=_environment({name: value.replace("{port}", str(port)) for name, value in command.variables.items()}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    tree = psutil.Process(process.pid)
    try:
        while not all(is_ready(each, command.ready) for each in command.ports(port)):
            if process.poll() is not None or time.perf_counter() - started > _START_SECONDS:
                raise SystemExit(f"{command.name} does not serve; see {log}")
            time.sleep(0.01)
        yield Running(command, port, tree, time.perf_counter() - started, log)
    finally:
        _stop(process, _tree(tree))


def paintbox(data_dir: Path, model: str, python: str = sys.executable, num_processes: int = 1) -> Command:
    """Return how to start Paintbox as it runs in production, with a data directory of its own and no rate limit.

    Args:
        data_dir: Its data directory.
        model: Reference of its base.
        python: The interpreter.
        num_processes: That share the port.
    """
    variables = {
        "PAINTBOX_DATA_DIR": str(data_dir),
        "PAINTBOX_PORT": "{port}",
        "PAINTBOX_BASES": f'["{model}"]',
        "PAINTBOX_DEVICE": "cpu",
        "PAINTBOX_RATE_LIMIT": "",
        "PAINTBOX_BROKER_URL": "redis://127.0.0.1:9/0",  # nothing listens there: classification needs no broker
        "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'benchmarks'}",
    }
    if num_processes == 1:
        return Command("paintbox", (python, "-m", "app"), "/readyz", "/v1/classify", variables)
    variables["PAINTBOX_PROCESSES"] = str(num_processes)
    several = (python, "-m", "_serving.several")
    return Command("paintbox", several, "/readyz", "/v1/classify", variables, num_processes=num_processes)


def free_port(following: int = 0) -> int:
    """Return a port on which nothing listens at the moment, nor on so many that follow it."""
    while True:
        with ExitStack() as stack, suppress(OSError, OverflowError):
            port: int = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            for each in range(port + 1, port + 1 + following):
                stack.enter_context(socket.create_server(("127.0.0.1", each)))
            return port


def is_ready(port: int, path: str) -> bool:
    """Return whether a GET is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


_PASSED_ON = ("PAINTBOX_SERVING_PRECISION",)


def _environment(added: Mapping[str, str]) -> dict[str, str]:
    """The environment without what is meant for an installation of ours, but for what is to be compared.

    Peers find their programs in it.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PAINTBOX_") or name in _PASSED_ON}
    return kept | {"PYTHONPATH": str(CHECKOUT / "benchmarks")} | dict(added)


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _stop(process: subprocess.Popen[bytes], tree: Sequence[psutil.Process]) -> None:
    for member in tree:
        if member.is_running():
            member.resume()
    process.terminate()
    _, alive = psutil.wait_procs(tree, timeout=_STOP_SECONDS)
    for member in alive:
        member.kill()
    process.wait()
