"""Feeds mutated inputs to a process of their own, which may be killed, and tells what went wrong."""

import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.mutations.consumers import CONSUMERS, empty
from tests.mutations.guard import Guard

HANG_SECONDS = 10.0
_START_SECONDS, _STOP_SECONDS = 120.0, 3.0
_MEMORY_BYTES = 4 << 30


@dataclass
class Report:
    """What came of the inputs of one kind.

    Attributes:
        kind: `images`, `archives` or `models`.
        endings: How many ended how.
        findings: What must not have happened, with the input's number.
        slowest_seconds: Of one input.
        peak_bytes: Most memory that the process held.
    """

    kind: str
    endings: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    peak_bytes: int = 0

    def __str__(self) -> str:
        endings = ", ".join(f"{count} {ending}" for ending, count in sorted(self.endings.items()))
        return (
            f"{self.kind}: {self.endings.total()} inputs ({endings}), {len(self.findings)} findings, "
            f"slowest {self.slowest_seconds:.2f} s, peak {self.peak_bytes / 1e6:.0f} MB"
        )


def run(kind: str, count: int, seed: int) -> Report:
    """Read `count` mutated inputs of a kind.

    Args:
        kind: `images`, `archives` or `models`.
        count: How many.
        seed: Decides which.

    Returns:
        What came of them.
    """
    report = Report(kind)
    with tempfile.TemporaryDirectory(prefix="mutations-") as root:
        reader: _Reader | None = None
        for index in range(count):
            reader = reader or _Reader(kind, seed, Path(root))
            if not reader.read(index, report):
                reader.close()
                reader = None
        if reader is not None:
            reader.close()
        strays = [path.name for path in Path(root).iterdir() if path.name not in {"data", "output"}]
        report.findings += [f"{kind}: left {name} outside the folder" for name in strays]
    return report


class _Reader:
    """A process that reads inputs one after the other."""

    def __init__(self, kind: str, seed: int, root: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, "open_clip"])  # seconds of imports, once for all readers
        self._pipe, theirs = context.Pipe()
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        self._process = context.Process(target=_serve, args=(kind, seed, root, theirs), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(_START_SECONDS) or self._pipe.recv() != "ready":
            raise RuntimeError("the reading process did not start")

    def read(self, index: int, report: Report) -> bool:
        """Read one input; return whether the process can go on."""
        self._pipe.send(index)
        if not self._pipe.poll(HANG_SECONDS):
            report.findings.append(f"{report.kind} {index}: hangs for {HANG_SECONDS:.0f} s")
            return False
        try:
            ending, findings, seconds, peak_bytes = self._pipe.recv()
        except EOFError:
            self._process.join()
            report.findings.append(f"{report.kind} {index}: the process died with status {self._process.exitcode}")
            return False
        report.endings[ending] += 1
        report.findings += [f"{report.kind} {index}: {finding}" for finding in findings]
        report.slowest_seconds = max(report.slowest_seconds, seconds)
        report.peak_bytes = max(report.peak_bytes, peak_bytes)
        return True

    def close(self) -> None:
        """End the process."""
        self._pipe.close()  # which tells it to end
        self._process.join(_STOP_SECONDS)
        self._process.kill()
        self._process.join()


def _serve(kind: str, seed: int, root: Path, pipe: Connection) -> None:
    """Read inputs until the parent goes away."""
    output = os.open(root / "output", os.O_WRONLY | os.O_CREAT)  # decoders print by themselves
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    data = root / "data"
    data.mkdir(exist_ok=True)
    os.environ.update(HOME=str(data), TMPDIR=str(data), HF_HOME=str(data / "hf"), PYTHONDONTWRITEBYTECODE="1")
    sys.dont_write_bytecode = True
    tempfile.tempdir = str(data)
    consume = CONSUMERS[kind]
    consume(seed, -1, _fresh(data))  # imports and seeds, before anything is measured
    guard = Guard(data)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    pipe.send("ready")
    for index in _indices(pipe):
        pipe.send(_one(consume, guard, seed, index, _fresh(data)))


def _one(consume: Any, guard: Guard, seed: int, index: int, data: Path) -> tuple[str, list[str], float, int]:
    start = time.perf_counter()
    try:
        ending, findings = consume(seed, index, data), []
    except BaseException as error:  # the edge: whatever is raised that should not be is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        ending, findings = "raised", [f"{type(error).__name__}: {error!s:.300} at {where.name}:{where.lineno}"]
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return ending, findings + guard.take(), seconds, peak


def _indices(pipe: Connection) -> Iterator[int]:
    while True:
        try:
            yield pipe.recv()
        except EOFError:
            return


def _fresh(data: Path) -> Path:
    empty(data)
    return data
