"""A trainer process that is started before there is a job for it.

A trainer spends its first seconds on importing PyTorch and open_clip, which is more than an instant patch takes. So an
idle worker keeps one process that has done so and waits for a job: `python -m worker.trainer`, without arguments. It
gets its job as one line on standard input, works as any trainer does, and exits afterwards.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

import structlog

from contract.jobs import JobKind
from worker.process import TRAINER_COMMAND, ChildProcess, launch_fresh, trainer_environment
from worker.settings import WorkerSettings

log = structlog.get_logger()


class Standby:
    """Holds at most one trainer that waits for a job.

    Args:
        command: Starts a trainer; without further arguments it waits.
    """

    def __init__(self, command: tuple[str, ...] = TRAINER_COMMAND) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._waiting: subprocess.Popen[bytes] | None = None
        self._environment: Mapping[str, str] = {}

    def prepare(self, settings: WorkerSettings) -> None:
        """Start a trainer unless one waits; not for a worker that only ingests, which needs no PyTorch."""
        if not settings.standby_trainer or set(settings.worker_kinds) <= {JobKind.INGEST}:
            return
        with self._lock:
            if self._waiting is not None and self._waiting.poll() is None:
                return
            self._discard()
            self._environment = trainer_environment(settings)
            try:
                with open(2, "ab", closefd=False) as output:
                    self._waiting = launch_fresh(self._command, self._environment, output)
            except OSError as error:  # a job starts its own trainer then
                log.warning("no trainer on standby", error=type(error).__name__)

    def launch(self, command: Sequence[str], environment: Mapping[str, str], output: IO[bytes]) -> ChildProcess:
        """Give the job to the waiting trainer, or start a fresh one if none waits; a `worker.process.Launch`."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            if environment == self._environment and _assign(waiting, command, output):
                return waiting
            _end(waiting)
        return launch_fresh(command, environment, output)

    def close(self) -> None:
        """End the waiting trainer."""
        with self._lock:
            self._discard()

    def _discard(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            _end(waiting)


def _assign(waiting: subprocess.Popen[bytes], command: Sequence[str], output: IO[bytes]) -> bool:
    """Tell the process its job; return whether it is there to do it."""
    assert waiting.stdin is not None
    *_, job_id, token = command
    line = json.dumps({"job_id": job_id, "token": int(token), "output": output.name})
    try:
        waiting.stdin.write(f"{line}\n".encode())
        waiting.stdin.flush()
    except OSError:
        return False
    return waiting.poll() is None


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with suppress(OSError):  # what was not written yet
            stream.close()
