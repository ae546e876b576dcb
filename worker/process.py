"""A trainer process: started in its own process group, heard over a pipe, and surely ended.

The trainer's standard input is a pipe that nobody writes to: when the supervisor dies, however it dies, the trainer
reads its end and exits, so a SIGKILLed worker leaves no trainer behind.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import IO, Protocol, Self

from registry.leases import Lease
from worker.log_tail import find_secrets, read_tail
from worker.messages import MAX_LINE_BYTES, Message, MessageError, parse_message
from worker.settings import WorkerSettings

TRAINER_COMMAND = (sys.executable, "-m", "worker.trainer")
MAX_LOG_BYTES = 16 << 20
"""A larger job log is started anew; the old one is kept as `.log.1`."""

_READ_BYTES = 1 << 16
_NOT_FOR_TRAINERS = (
    *("PAINTBOX_BROKER_URL", "PAINTBOX_API_KEY", "PAINTBOX_WEBHOOK_SECRET"),
    *("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"),  # may hold a collector's key
)


class ChildProcess(Protocol):
    """A started process; `subprocess.Popen` is one."""

    pid: int

    @property
    def stdin(self) -> IO[bytes] | None:
        """Pipe to its standard input."""

    @property
    def stdout(self) -> IO[bytes] | None:
        """Pipe from its standard output."""

    def poll(self) -> int | None:
        """Return the exit status, or minus the signal that ended it, or None while it runs."""

    def wait(self) -> int:
        """Return the exit status once it has ended."""

    def terminate(self) -> None:
        """Send SIGTERM."""


Launch = Callable[[Sequence[str], Mapping[str, str], IO[bytes]], ChildProcess]
"""Starts a command with an environment and a log for standard error, in its own process group."""


def launch_fresh(command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Return a fresh process in a process group of its own, whose standard error goes to the log."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=environment,
        start_new_session=True,
    )


class TrainerProcess:
    """A running trainer; use it as a context manager.

    Args:
        settings: Passed through the environment, so that the trainer has its worker's settings.
        lease: The job, and the token that the trainer's writes carry.
        command: Program with the protocol of `worker.trainer`; job and token are appended to its arguments.
        max_log_bytes: A larger log is started anew.
        launch: Starts the command.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        lease: Lease,
        command: tuple[str, ...] = TRAINER_COMMAND,
        max_log_bytes: int = MAX_LOG_BYTES,
        launch: Launch = launch_fresh,
    ) -> None:
        self._settings = settings
        self._lease = lease
        self._command = command
        self._max_log_bytes = max_log_bytes
        self._launch = launch
        self._rest = bytearray()
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        log_dir = self._settings.log_dir / "jobs"
        log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._log_path = log_dir / f"{self._lease.job_id}.log"
        self._log: IO[bytes] = self._log_path.open("ab")
        self._log_start = self._log.tell()
        try:
            command = (*self._command, self._lease.job_id, str(self._lease.token))
            self._process = self._launch(command, trainer_environment(self._settings), self._log)
        except OSError:
            self._log.close()
            raise
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        """End the whole process group and reap the trainer."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            assert stream is not None
            stream.close()

    @property
    def exited(self) -> bool:
        """Whether the trainer has ended and all it said was read."""
        return not self._selector.get_map() and self._process.poll() is not None

    @property
    def exit_status(self) -> int:
        """Exit status, or minus the signal that ended it."""
        status = self._process.poll()
        assert status is not None
        return status

    def ask_to_stop(self) -> None:
        """Ask the trainer to save a checkpoint and exit."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def log_tail(self) -> str:
        """Return the end of this attempt's output, without secrets; empty if the log cannot be read."""
        broker_url = self._settings.broker_url.get_secret_value()
        secrets = find_secrets(os.environ, self._settings.resolved_database_url, broker_url)
        with suppress(OSError):
            return read_tail(self._log_path, self._log_start, secrets)
        return ""

    def bound_log(self) -> None:
        """Start the log anew if it has grown too large, so that endless output does not fill the disk."""
        if os.fstat(self._log.fileno()).st_size <= self._max_log_bytes:
            return
        with suppress(OSError), self._log_path.open("rb") as full:  # a full disk must not keep the log from being cut
            full.seek(-self._max_log_bytes, os.SEEK_END)
            self._log_path.with_suffix(".log.1").write_bytes(full.read(self._max_log_bytes))
        os.truncate(self._log_path, 0)  # it is appended to, so the trainer goes on at its new end
        self._log_start = 0

    def messages(self, timeout_seconds: float) -> Iterator[Message]:
        """Yield the messages that the trainer sends within the timeout.

        Raises:
            MessageError: It sent something else.
        """
        if not self._selector.get_map():  # it closed its end and is about to exit
            time.sleep(min(timeout_seconds, 0.05))
            return
        if not self._selector.select(timeout_seconds):
            return
        stream = self._process.stdout
        assert stream is not None
        data = os.read(stream.fileno(), _READ_BYTES)
        if not data:
            self._selector.unregister(stream)
        self._rest += data
        if len(self._rest) > MAX_LINE_BYTES:
            raise MessageError(f"a line of more than {MAX_LINE_BYTES} bytes")
        if b"\n" in data:
            *lines, rest = self._rest.split(b"\n")
            self._rest = bytearray(rest)
            for line in lines:
                yield parse_message(bytes(line))


def trainer_environment(settings: WorkerSettings) -> dict[str, str]:
    """Return a trainer's environment: the worker's, without secrets, since a trainer reads strangers' files."""
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_TRAINERS}
    return inherited | environment_of(settings)


def environment_of(settings: WorkerSettings) -> dict[str, str]:
    """Return the environment variables that give another process these settings."""
    without = {"broker_url"}  # the trainer dispatches nothing
    values = settings.model_dump(mode="json", exclude=without, exclude_none=True)
    return {
        f"PAINTBOX_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }
