"""Keeping child processes alive, and ending them all: knows processes, nothing of Paintbox.

Each child leads a session of its own, so that Ctrl-C in a terminal reaches only the supervisor, which then ends the
children in order, and so that what a child leaves behind can be ended with it. On Linux the kernel also tells the
children when the supervisor dies, however it dies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 10.0
_STEADY_SECONDS = 30.0
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _do_nothing() -> None:
    pass


@dataclass(frozen=True)
class ChildSpec:
    """How to run a child.

    Attributes:
        name: For people.
        command: Program and arguments.
        log_path: Its output is appended there.
        environment: Its whole environment.
        grace_seconds: How long it may take to end after SIGTERM.
        before_start: Called before each start, to make what it needs.
    """

    name: str
    command: Sequence[str]
    log_path: Path
    environment: Mapping[str, str]
    grace_seconds: float = 5.0
    before_start: Callable[[], None] = _do_nothing


class Child:
    """One child, started again whenever it dies, later and later if it keeps dying.

    Args:
        spec: How to run it.
        clock: Monotonic seconds; tests pass their own.
    """

    def __init__(self, spec: ChildSpec, clock: Callable[[], float] = time.monotonic) -> None:
        self.spec = spec
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._next_start = 0.0
        self._backoff_seconds = _FIRST_BACKOFF_SECONDS

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process."""
        self.spec.before_start()
        self.spec.log_path.parent.mkdir(parents=True, exist_ok=True)
        parent = os.getpid()
        with self.spec.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.spec.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.spec.environment),
                start_new_session=True,
                preexec_fn=lambda: _die_with(parent),  # the supervisor has one thread, so this is safe
            )
        self._started = self._clock()

    def tend(self) -> int | None:
        """Notice if the child died, start it again when it is time to, and return how it ended if it just did."""
        if self._process is None:
            if self._clock() >= self._next_start:
                self.start()
            return None
        status = self._process.poll()
        if status is None:
            return None
        _end_group(self._process.pid)
        self._process = None
        self._plan_restart()
        return status

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    def stop(self) -> None:
        """End the child: SIGTERM, its grace time, then SIGKILL to all that it started."""
        if self._process is None:
            return
        self.ask_to_stop()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(self.spec.grace_seconds)
        _end_group(self._process.pid)
        self._process.wait()
        self._process = None

    def _plan_restart(self) -> None:
        now = self._clock()
        if now - self._started >= _STEADY_SECONDS:
            self._backoff_seconds = _FIRST_BACKOFF_SECONDS
        self._next_start = now + self._backoff_seconds
        self._backoff_seconds = min(2 * self._backoff_seconds, _LONGEST_BACKOFF_SECONDS)


class Supervisor:
    """Several children: started in order, tended together, stopped in reverse order.

    Args:
        specs: The children.
        on_death: Called with a child's specification and its exit status each time one died.
    """

    def __init__(self, specs: Sequence[ChildSpec], on_death: Callable[[ChildSpec, int], None]) -> None:
        self.children = [Child(spec) for spec in specs]
        self._on_death = on_death

    def start(self) -> None:
        """Start every child."""
        for child in self.children:
            child.start()

    def tend(self) -> None:
        """Look after every child once; call it a few times a second."""
        for child in self.children:
            status = child.tend()
            if status is not None:
                self._on_death(child.spec, status)

    def stop(self) -> None:
        """End every child, the last one first, and all that they started."""
        for child in reversed(self.children):
            child.stop()


def _die_with(parent: int) -> None:
    """Runs in the child before its program: have the kernel send SIGTERM when the parent dies."""
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def _end_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
