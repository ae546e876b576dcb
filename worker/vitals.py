"""Signs of work of a trainer that has nothing to report, and limits on its resources."""

from __future__ import annotations

import resource
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from worker.messages import Alive, Channel

_LOOK_SECONDS = 10.0
_LEAST_CPU_SHARE = 0.02  # of one core
_LEAST_BYTES = 64 << 10
_OOM_SCORE = 500  # of 1000: the system ends a trainer before the service, which can start it again


def tell_signs_of_work(channel: Channel, look_seconds: float = _LOOK_SECONDS) -> None:
    """Start a thread that reports, every `look_seconds`, that the process works, as long as it does.

    Some stages have nothing to report for minutes: a download, an unpacked archive, a large head. A process that
    computes, reads or writes is at work; one that hangs does none of these.
    """
    threading.Thread(target=_tell, args=(channel, look_seconds), daemon=True).start()


@dataclass(frozen=True)
class Work:
    """Resource use of a process so far: processor seconds, and bytes read and written."""

    at: float
    cpu_seconds: float
    num_bytes: int


def measure_work() -> Work:
    """Return the resource use of this process so far."""
    return Work(time.monotonic(), time.process_time(), _num_bytes())


def has_worked(before: Work, after: Work) -> bool:
    """Return whether a process has worked between two measures."""
    computed = after.cpu_seconds - before.cpu_seconds >= _LEAST_CPU_SHARE * (after.at - before.at)
    return computed or after.num_bytes - before.num_bytes >= _LEAST_BYTES


def be_ended_first() -> None:
    """Let the system end this process before others when memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")


def limit_memory(num_bytes: int) -> None:
    """Limit the writable memory of this process, without mapped files; 0 sets no limit."""
    if num_bytes and sys.platform.startswith("linux"):
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = num_bytes if hard == resource.RLIM_INFINITY else min(num_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _tell(channel: Channel, look_seconds: float) -> None:
    before = measure_work()
    while True:
        time.sleep(look_seconds)
        after = measure_work()
        if has_worked(before, after):
            try:
                channel.send(Alive())
            except (OSError, ValueError):  # the pipe is closed: the work is over
                return
        before = after


def _num_bytes() -> int:
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.partition(": ")[2]) for line in lines if line.startswith(("rchar", "wchar")))
