"""Keeps child processes running and ends them reliably. Independent of what they do.

Each child leads a session of its own, so that a Ctrl-C in the terminal reaches the supervisor alone, which stops the
children. Whatever a child leaves in its process group is killed after it. Where the system can (Linux), a
child is signalled when its supervisor dies, so that even a SIGKILLed supervisor leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

CONFIGURATION_STATUS = 2
_LOG_LIMIT_BYTES = 64 << 20
_LOG_LOOK_SECONDS = 10.0
_COPY_BYTES = 1 << 20
_POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1


class ChildGaveUpError(Exception):
    """A child ended with a status that says that starting it again is of no use."""

    def __init__(self, name: str, log_path: Path) -> None:
        super().__init__(f"{name} gave up")
        self.name = name
        self.log_path = log_path


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """What to run, and how to supervise it.

    Attributes:
        name: Display name.
        command: Program and arguments.
        environment: All of its environment variables.
        log_path: Its output is appended to this file.
        grace_seconds: How long it may take to end after SIGTERM.
        death_signal: Signal that it gets when its supervisor dies.
        serves_others: Others need it, so it is stopped after them.
        prepare: Called before each start with the number of failures in a row.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log_path: Path
    grace_seconds: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL
    serves_others: bool = False
    prepare: Callable[[int], None] = lambda _: None


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a child is started again.

    Attributes:
        first_seconds: After one failure; doubles with each further one.
        longest_seconds: Upper bound.
        healthy_seconds: A child that lived this long has no failures counted.
    """

    first_seconds: float = 0.5
    longest_seconds: float = 10.0
    healthy_seconds: float = 30.0

    def delay_seconds(self, num_failures: int) -> float:
        """Return the wait after so many failures in a row, at least one."""
        return float(min(self.longest_seconds, self.first_seconds * 2.0 ** min(num_failures - 1, 32)))


class Child:
    """A started process, which leads its own session and process group."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        with _open_log(spec.log_path) as log:
            self._process = subprocess.Popen(
                spec.command,
                env=dict(spec.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_dies_with_parent(spec.death_signal),
            )

    @property
    def pid(self) -> int:
        """Process id, and process group id."""
        return self._process.pid

    def has_ended(self) -> bool:
        """Return whether it has ended. It is not reaped yet, so its id still belongs to it."""
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def terminate(self) -> None:
        """Send SIGTERM."""
        if not self.has_ended():
            self._process.terminate()

    def finish(self) -> int:
        """Kill what is left of its process group; return its exit status, or minus the signal that ended it."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait()


@dataclass
class _Slot:
    """A child, its account of failures, and when to start it again."""

    spec: ChildSpec
    child: Child | None = None
    started_at: float = 0.0
    num_failures: int = 0
    start_at: float = field(default=0.0)


class ProcessSupervisor:
    """Starts children, restarts those that die, and stops all.

    Args:
        on_event: Called with one line about each event.
        backoff: How long to wait before a restart.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        on_event: Callable[[str], None],
        backoff: Backoff = Backoff(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_event = on_event
        self._backoff = backoff
        self._clock = clock
        self._logs_looked_at = -math.inf
        self._slots: dict[str, _Slot] = {}

    def start(self, spec: ChildSpec) -> None:
        """Start a child."""
        self._slots[spec.name] = slot = _Slot(spec)
        self._launch(slot)

    def pid(self, name: str) -> int | None:
        """Return the process id of a child, or None while it is not running."""
        child = self._slots[name].child
        return child.pid if child else None

    def num_failures(self, name: str) -> int:
        """Return how often in a row a child died without having lived long."""
        return self._slots[name].num_failures

    def poll(self) -> None:
        """Restart children that are due; call it several times a second, from one thread."""
        self._limit_logs()
        for slot in self._slots.values():
            if slot.child is not None and slot.child.has_ended():
                self._bury(slot, slot.child)
            if slot.child is None and self._clock() >= slot.start_at:
                self._launch(slot)

    def stop(self, in_a_hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop all children concurrently, those that serve others after the rest.

        `in_a_hurry` is called repeatedly; once it returns True, the rest is killed at once.
        """
        for serves_others in (False, True):
            stopping = [slot for slot in self._slots.values() if slot.spec.serves_others is serves_others]
            self._stop([slot.child for slot in stopping if slot.child is not None], in_a_hurry)
            for slot in stopping:
                slot.child = None

    def _limit_logs(self) -> None:
        if self._clock() - self._logs_looked_at < _LOG_LOOK_SECONDS:
            return
        self._logs_looked_at = self._clock()
        for slot in self._slots.values():
            try:
                put_log_aside(slot.spec.log_path)
            except OSError as error:  # such as a full disk
                self._on_event(f"cannot rotate {slot.spec.log_path}: {error}")

    def _launch(self, slot: _Slot) -> None:
        slot.started_at = self._clock()
        try:
            slot.spec.prepare(slot.num_failures)
            slot.child = Child(slot.spec)
        except OSError as error:  # such as a full disk, which may pass
            self._retry_later(slot, f"cannot start: {error}")

    def _bury(self, slot: _Slot, child: Child) -> None:
        status = child.finish()
        slot.child = None
        if self._clock() - slot.started_at >= self._backoff.healthy_seconds:
            slot.num_failures = 0
        if status == CONFIGURATION_STATUS:
            raise ChildGaveUpError(slot.spec.name, slot.spec.log_path)
        self._retry_later(slot, f"ended ({_describe(status)})")

    def _retry_later(self, slot: _Slot, what: str) -> None:
        slot.num_failures += 1
        delay = self._backoff.delay_seconds(slot.num_failures)
        slot.start_at = self._clock() + delay
        self._on_event(f"{slot.spec.name} {what}; restarting in {delay:g} s. Log: {slot.spec.log_path}")

    def _stop(self, children: Sequence[Child], in_a_hurry: Callable[[], bool]) -> None:
        started = self._clock()
        for child in children:
            child.terminate()
        waiting = list(children)
        while waiting:
            over, hurries = self._clock() - started, in_a_hurry()
            for child in [each for each in waiting if each.has_ended() or hurries or over >= each.spec.grace_seconds]:
                if not child.has_ended():
                    self._on_event(f"{child.spec.name} does not stop; killing it")
                child.finish()
                waiting.remove(child)
            if waiting:
                time.sleep(_POLL_SECONDS)


def signal_at_parents_death(number: signal.Signals) -> None:
    """Have this process signalled when the thread that started it ends; Linux only."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def _dies_with_parent(number: signal.Signals) -> Callable[[], None]:
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None  # nothing is loaded after the fork

    def in_child() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
            if os.getppid() != parent:  # it died before we could ask
                os._exit(1)

    return in_child


def put_log_aside(path: Path, limit_bytes: int = _LOG_LIMIT_BYTES) -> bool:
    """Move a log that has grown beyond the limit to a file beside it, and return whether it did.

    The file replaces the previous one. A process that writes to the log has it open for appending, so it is copied and
    truncated; what is written next stands at its beginning. Lines that are written between the two, within
    microseconds, are lost. The log need not exist.
    """
    if not path.exists() or path.stat().st_size <= limit_bytes:
        return False
    partial = path.with_name(path.name + ".new")
    with (
        path.open("r+b") as log,
        os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as copy,
    ):
        shutil.copyfileobj(log, copy, _COPY_BYTES)
        shutil.copyfileobj(log, copy, _COPY_BYTES)  # what came meanwhile
        log.truncate(0)
    partial.replace(_aside(path))
    return True


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def _open_log(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:  # nobody writes into it now
        path.replace(_aside(path))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def _describe(status: int) -> str:
    return f"status {status}" if status >= 0 else signal.Signals(-status).name
