"""`paintbox up`: everything on one machine, from one command, under one data directory.

Starts an embedded Valkey, a worker and the API, keeps them alive, and stops all of them on Ctrl-C or SIGTERM. Each
child's output is in `logs/`. While it runs, `service.json` tells clients of this user where.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import filelock
import typer
from rich.console import Console

from app.embedded_valkey import EmbeddedValkey
from app.settings import AppSettings
from app.supervision import ChildSpec, Supervisor
from registry.blobs import sync_directory
from registry.errors import ConfigurationError

_TICK_SECONDS = 0.2
_PROBE_SECONDS = 2.0
_BROKER_VARIABLE = "PAINTBOX_BROKER_URL"
_WRONG_CONFIGURATION = 2


def up(
    data_dir: Annotated[
        Path | None, typer.Option(help="Where all state lives; left out: PAINTBOX_DATA_DIR or the user's data folder.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; any but loopback needs an API key.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")] = None,
) -> None:
    """Start the service on this machine and keep it running until Ctrl-C."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        with _catch_signals() as stop, _installation(data_dir, host, port) as settings:
            _run(settings, stop, console)
    except ConfigurationError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]Error:[/] {error}")
        raise typer.Exit(_WRONG_CONFIGURATION) from error


@contextmanager
def _installation(data_dir: Path | None, host: str | None, port: int | None) -> Iterator[AppSettings]:
    """Yield the settings, with the data directory made and held by this process alone."""
    given = {"data_dir": data_dir and data_dir.absolute(), "host": host, "port": port}
    settings = AppSettings.load(**{name: value for name, value in given.items() if value is not None})
    try:
        settings.make_directories()
    except OSError as error:
        raise ConfigurationError(f"The data directory cannot be used: {error}.", "Name another: --data-dir.") from error
    lock = filelock.FileLock(settings.data_dir / "up.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise ConfigurationError(
            f"Another `paintbox up` runs on {settings.data_dir}.", "Stop it first, or use another --data-dir."
        ) from error
    try:
        yield settings.model_copy(update={"port": _require_free_port(settings.host, settings.port)})
    finally:
        lock.release()


def _run(settings: AppSettings, stop: threading.Event, console: Console) -> None:
    seen_ready = threading.Event()

    def on_death(spec: ChildSpec, status: int) -> None:
        if status == _WRONG_CONFIGURATION and not seen_ready.is_set():
            raise ConfigurationError(_tail(spec.log_path))
        console.print(f"{spec.name} ended ({_describe(status)}); starting it again. Its log: {spec.log_path}")

    supervisor = Supervisor(_children(settings), on_death)
    url = f"http://{_reachable(settings.host)}:{settings.port}"
    service_file = settings.data_dir / "service.json"
    try:
        console.print(f"Starting Paintbox on {settings.data_dir} …")
        supervisor.start()
        if _tend_until(supervisor, stop, lambda: _is_ready(url)):
            seen_ready.set()
            _write_atomically(service_file, json.dumps({"url": url, "pid": os.getpid()}))
            console.print(f"Ready at {url} (API documentation: {url}/docs, logs: {settings.log_dir}). Ctrl-C stops it.")
            _tend_until(supervisor, stop, lambda: False)
        console.print("Stopping …")
    finally:
        service_file.unlink(missing_ok=True)
        supervisor.stop()


def _children(settings: AppSettings) -> list[ChildSpec]:
    """Return what to run, in the order of starting."""
    environment = os.environ | {
        "PAINTBOX_DATA_DIR": str(settings.data_dir),
        "PAINTBOX_HOST": settings.host,
        "PAINTBOX_PORT": str(settings.port),
        "TMPDIR": str(settings.scratch_dir),
        "PYTHONUNBUFFERED": "1",
    }
    logs = settings.log_dir
    children = []
    if _BROKER_VARIABLE not in os.environ:
        valkey = EmbeddedValkey.in_directory(settings.data_dir / "valkey", settings.data_dir / "valkey.conf")
        environment[_BROKER_VARIABLE] = valkey.url
        command = valkey.command
        children.append(ChildSpec("valkey", command, logs / "valkey.log", os.environ, 5.0, valkey.prepare))
    children.append(ChildSpec("worker", (sys.executable, "-m", "worker"), logs / "worker.log", environment, 20.0))
    children.append(ChildSpec("api", (sys.executable, "-m", "app"), logs / "api.log", environment, 15.0))
    return children


def _tend_until(supervisor: Supervisor, stop: threading.Event, is_done: Callable[[], bool]) -> bool:
    """Look after the children until `is_done` (returns True) or until told to stop (returns False)."""
    while not stop.wait(_TICK_SECONDS):
        supervisor.tend()
        if is_done():
            return True
    return False


@contextmanager
def _catch_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT, SIGTERM and SIGHUP set instead of ending the process."""
    stop = threading.Event()
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in caught}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _require_free_port(host: str, port: int) -> int:
    """Return the port to listen on: this one, or a free one for 0."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"Cannot listen on {host}, port {port}: {error.strerror}.", "Choose another with --port (0: any)."
            ) from error
        return int(probe.getsockname()[1])


def _reachable(host: str) -> str:
    """Return an address of this machine that reaches a server listening on `host`, fit for a URL."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{address}]" if ":" in address else address


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=_PROBE_SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, TimeoutError):
        return False


def _write_atomically(path: Path, text: str) -> None:
    incoming = path.with_suffix(".incoming")
    incoming.write_text(text, encoding="utf-8")
    incoming.replace(path)
    sync_directory(path.parent)


def _tail(log_path: Path) -> str:
    return "\n".join(log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-1:])


def _describe(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
