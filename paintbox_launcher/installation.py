"""The processes of an installation: which there are, when they are ready, and how clients find them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Protocol
from urllib.error import HTTPError, URLError

from rich.console import Console

from app.settings import AppSettings
from paintbox_launcher.embedded_valkey import EmbeddedValkey
from paintbox_launcher.supervision import ChildGaveUpError, ChildSpec, ProcessSupervisor
from registry.errors import ConfigurationError

SERVICE_FILE = "service.json"
_POLL_SECONDS = 0.1
_FAILURES_BEFORE_GIVING_UP = 3
_TAIL_LINES = 5
_PATIENCE_SECONDS = 8.0
_START_SECONDS = 30.0  # before the API answers at all
_MAX_PROBLEM_BYTES = 1 << 16
_SECRETS_OF_THE_API = frozenset({"PAINTBOX_API_KEY", "PAINTBOX_WEBHOOK_SECRET"})  # trainers read untrusted files
_UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where a server that listens everywhere is reached from here


class StartError(Exception):
    """A process ends again and again before the service is ready."""


class Stop(Protocol):
    """Says when to stop."""

    def requested(self) -> bool:
        """Return whether to stop."""

    def in_a_hurry(self) -> bool:
        """Return whether to stop without waiting for anybody."""


class Installation:
    """API processes, a worker and, if no broker is named, a Valkey server, on one data directory."""

    def __init__(self, settings: AppSettings, console: Console, stop: Stop) -> None:
        self._settings = settings
        self._console = console
        self._stop = stop
        self._supervisor = ProcessSupervisor(on_event=console.print)
        self._service_file = settings.data_dir / SERVICE_FILE
        self._hindrances = Hindrances()
        self.url = address(settings.host, settings.port)

    def run(self) -> None:
        """Start all processes, keep them running until asked to stop, and stop them.

        Raises:
            ConfigurationError: A process reports that a setting is wrong.
        """
        try:
            if self._start():
                self._announce()
                self._keep_running()
        except ChildGaveUpError as error:
            raise ConfigurationError(_tail(error.log_path, 1) or str(error)) from error
        finally:
            self._service_file.unlink(missing_ok=True)
            self._console.print("Stopping …")
            self._supervisor.stop(self._stop.in_a_hurry)

    def _start(self) -> bool:
        """Start all processes; return whether they are ready, and no stop was requested before."""
        self._console.print(f"Starting Paintbox in {self._settings.data_dir} …")
        environment = self._environment()
        if "broker_url" not in self._settings.model_fields_set:
            valkey = EmbeddedValkey(self._settings.data_dir / "valkey")
            environment["PAINTBOX_BROKER_URL"] = valkey.url
            self._supervisor.start(valkey.child(self._log_path("valkey"), _minimal_environment()))
            if not self._wait_until(valkey.answers, "valkey"):
                return False
        for spec in self._python_children(environment):
            self._supervisor.start(spec)
        return self._wait_until(self._is_ready, *self._api_names(), "worker")

    def _is_ready(self) -> bool:
        """Return whether the API is ready; publish its address then, and print why it is not otherwise."""
        hindrance = find_hindrance(self.url)
        if hindrance != NOT_ANSWERING and not self._service_file.exists():
            _write_atomically(self._service_file, {"url": self.url, "pid": os.getpid()})
            _point_at(self._settings.data_dir)
        told = self._hindrances.tell(hindrance, time.monotonic())
        if told:
            self._console.print(f"Not ready yet: {told}")
        return hindrance is None

    def _api_names(self) -> list[str]:
        return ["api", *(f"api-{number}" for number in range(2, self._settings.processes + 1))]

    def _python_children(self, environment: dict[str, str]) -> list[ChildSpec]:
        without_secrets = {name: value for name, value in environment.items() if name not in _SECRETS_OF_THE_API}
        worker = ChildSpec(
            name="worker",
            command=(sys.executable, "-m", "worker"),
            environment=without_secrets,
            log_path=self._log_path("worker"),
            grace_seconds=20.0,
            death_signal=signal.SIGTERM,  # it gives its job back and stops the trainer
        )
        apis = [
            ChildSpec(
                name=name,
                command=(sys.executable, "-m", "app"),
                environment=environment,
                log_path=self._log_path(name),
                grace_seconds=15.0,  # it lets requests finish for up to 10
            )
            for name in self._api_names()
        ]
        return [worker, *apis]

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "PAINTBOX_DATA_DIR": str(self._settings.data_dir),
            "PAINTBOX_HOST": self._settings.host,
            "PAINTBOX_PORT": str(self._settings.port),
            "TMPDIR": str(self._settings.scratch_dir),
            "PYTHONSAFEPATH": "1",  # a folder named `app` where the user happens to be is not ours
            # API and trainer share the cores. Threads that spin while they wait take them from each other: beside
            # another busy process, the starter trained at 25 images/s spinning and 57 waiting; alone, at 212 and 198.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        }

    def _wait_until(self, is_up: Callable[[], bool], *names: str) -> bool:
        """Return True once a check passes, False if a stop is requested before."""
        while not self._stop.requested():
            self._supervisor.poll()
            if is_up():
                return True
            for name in names:
                self._check_starts(name)
            time.sleep(_POLL_SECONDS)
        return False

    def _check_starts(self, name: str) -> None:
        if self._supervisor.num_failures(name) >= _FAILURES_BEFORE_GIVING_UP:
            path = self._log_path(name)
            raise StartError(f"{name} failed to start. The end of {path}:\n{_tail(path, _TAIL_LINES)}")

    def _keep_running(self) -> None:
        while not self._stop.requested():
            self._supervisor.poll()
            time.sleep(_POLL_SECONDS)

    def _announce(self) -> None:
        self._console.print(f"Ready at {self.url}, documentation at {self.url}/docs. Press Ctrl-C to stop.")

    def _log_path(self, name: str) -> Path:
        return self._settings.log_dir / f"{name}.log"


def address(host: str, port: int) -> str:
    """Return the URL under which this machine reaches a server that listens on `host`."""
    reachable = _UNSPECIFIED.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


NOT_ANSWERING = "the API is not responding."


def find_hindrance(url: str) -> str | None:
    """Return why the service does not serve classify requests, and what to do; None: it does."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach our loopback
    try:
        with opener.open(f"{url}/readyz", timeout=2.0) as response:
            return None if response.status == HTTPStatus.OK else f"it returns {response.status}."
    except HTTPError as error:
        with error:
            return _describe_problem(url, error)
    except (URLError, OSError, HTTPException):
        return NOT_ANSWERING


def _describe_problem(url: str, error: HTTPError) -> str:
    try:
        problem = json.loads(error.read(_MAX_PROBLEM_BYTES))
        detail, code = str(problem["detail"]), problem["code"]
    except (ValueError, KeyError, TypeError, OSError, HTTPException):
        return f"it returns {error.code}."
    if code != "model_not_loaded":
        return detail
    return f"{detail} Repair it, or serve another version: `paintbox --url {url} rollback` or `… activate VERSION`."


class Hindrances:
    """Decides when to print why the service is not ready: after a while, and whenever the reason changes."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._told: str | None = None

    def tell(self, hindrance: str | None, now: float) -> str | None:
        """Return what to print about what `find_hindrance` found, at a monotonic time in seconds.

        None: nothing, because it was printed already, or the service has only just been started.
        """
        self._since = now if self._since is None else self._since
        patience = _PATIENCE_SECONDS if hindrance != NOT_ANSWERING else _START_SECONDS
        if hindrance is None or hindrance == self._told or now - self._since < patience:
            return None
        self._told = hindrance
        return hindrance


def is_free(host: str, port: int) -> bool:
    """Return whether a server could listen on this host and port.

    Raises:
        ConfigurationError: The host is not one of this machine's.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigurationError(f"PAINTBOX_HOST: {host!r}: {error}.", "Use an address of this machine.") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: connections may still be closing
        try:
            probe.bind(where)
            probe.listen()
        except OSError:
            return False
    return True


def _minimal_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}


def _write_atomically(path: Path, content: dict[str, object]) -> None:
    partial = path.with_name(path.name + ".new")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(path)


def _point_at(data_dir: Path) -> None:
    """Let this user's clients find the service, wherever its data directory is, by a pointer in a known folder."""
    root = os.environ.get("XDG_STATE_HOME", "").strip()
    with suppress(OSError, RuntimeError):  # a user without a home, or one that cannot be written
        folder = (Path(root) if root else Path.home() / ".local" / "state") / "paintbox" / "services"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        resolved = str(data_dir.resolve())
        name = hashlib.sha256(resolved.encode()).hexdigest()[:24]
        (folder / name).write_text(resolved, encoding="utf-8")


def _tail(path: Path, num_lines: int) -> str:
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-num_lines:])
    except OSError:
        return ""
