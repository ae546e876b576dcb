"""Starts a service, an honest client and one abuse after the other; tells what the honest client noticed."""

import asyncio
import multiprocessing
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil

from tests.attack import bodies, connections, uploads  # noqa: F401  (each registers its abuses)
from tests.attack.attacker import ABUSES, Seen, Target, attack
from tests.attack.honest import HonestClient, Timings
from tests.builders import digit_members, write_zip

MAX_P99_SECONDS = 2.0
MAX_MEMORY_BYTES = 4 << 30
MAX_REFUSAL_BYTES = 10 << 10
_READY_SECONDS = 120.0
_REST_SECONDS = 0.5
_ALLOWED = {"503", "504", "507"}  # said to the attacker, with what to do next; no fault of the service


@dataclass
class Outcome:
    """What came of an attack.

    Attributes:
        seen: What each abuse got to see.
        timings: What the honest client did.
        peak_bytes: Most memory that all processes of the service held together, shared pages counted once.
        stopped_seconds: How long the service took to end after it was told to.
        exit_status: Its exit status.
    """

    seen: dict[str, Seen] = field(default_factory=dict)
    timings: Timings = field(default_factory=Timings)
    peak_bytes: int = 0
    stopped_seconds: float = 0.0
    exit_status: int | None = None

    def faults(self, max_p99_seconds: float = MAX_P99_SECONDS) -> Iterator[str]:
        """Yield every promise that was broken."""
        yield from (f"the honest client was refused: {failure}" for failure in self.timings.failures[:20])
        if self.timings.percentile(0.99) >= max_p99_seconds:
            yield f"the honest client's p99 is {self.timings.percentile(0.99):.2f} s"
        if self.peak_bytes >= MAX_MEMORY_BYTES:
            yield f"memory rose to {self.peak_bytes / 1e9:.2f} GB"
        if self.exit_status != 0:
            yield f"the service ended with status {self.exit_status}"
        for name, seen in self.seen.items():
            wrong = {status for status in seen.statuses if status[0] == "5" and status not in _ALLOWED}
            yield from (f"{name}: {seen.statuses[status]} answers of {status}" for status in wrong)
            yield from (f"{name}: {request}" for request in seen.crossed)
            if seen.largest_refusal > MAX_REFUSAL_BYTES:
                yield f"{name}: a refusal of {seen.largest_refusal:,} bytes"


def run(folder: Path, seconds: float, names: Sequence[str] = (), tell: Callable[[str], object] = len) -> Outcome:
    """Attack a service of its own.

    Args:
        folder: An empty one, for its data.
        seconds: How long each abuse goes on.
        names: Which abuses; none: all.
        tell: Told a line about each.

    Returns:
        What came of it.
    """
    outcome = Outcome()
    with _service(folder, outcome) as (url, admin, process):
        target, honest_token = _prepare(url, admin, folder, seconds)
        honest = HonestClient(url, honest_token)
        with _watched_memory(process.pid, outcome):
            for name in names or ABUSES:
                honest.during = name
                outcome.seen[name] = _in_a_process(name, target)
                time.sleep(_REST_SECONDS)
                tell(_line(name, outcome, honest.timings))
            honest.stop()
        outcome.timings = honest.timings
    return outcome


def _line(name: str, outcome: Outcome, timings: Timings) -> str:
    seen = outcome.seen[name]
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(seen.statuses.items()))
    return (
        f"{name}: honest median {timings.percentile(0.5, name):.3f} s, worst {timings.percentile(1.0, name):.3f} s, "
        f"of {len(timings.seconds[name])}; answers {statuses or 'none'}; "
        f"largest refusal {seen.largest_refusal:,} bytes; memory so far {outcome.peak_bytes / 1e9:.2f} GB"
    )


@contextmanager
def _service(folder: Path, outcome: Outcome) -> Iterator[tuple[str, str, subprocess.Popen[bytes]]]:
    """A running `paintbox up` with a key, and how it ended."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    admin = secrets.token_hex(16)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAINTBOX_")}
    environment |= {"PAINTBOX_API_KEY": admin, "PAINTBOX_RATE_LIMIT": "", "PAINTBOX_DEVICE": "cpu"}
    command = [sys.executable, "-m", "paintbox_client", "up", "--port", str(port), "--data-dir", str(folder / "data")]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, process, folder / "up.log")
        yield url, admin, process
    finally:
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            outcome.exit_status = process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
        outcome.stopped_seconds = time.monotonic() - start


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(f"{url}/readyz").is_success:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the service did not start: {log.read_text(errors='replace')}")


def _prepare(url: str, admin: str, folder: Path, seconds: float) -> tuple[Target, str]:
    """Make keys for an honest client and an attacker, and things that belong to neither."""
    with httpx2.Client(base_url=url, headers={"authorization": f"Bearer {admin}"}, timeout=60) as http:

        def made(path: str, **options: object) -> dict[str, object]:
            response = http.post(path, **options)  # type: ignore[arg-type]
            response.raise_for_status()
            return dict(response.json())

        scopes = ["read", "classify", "write"]
        tokens = [
            str(made("/v1/keys", json={"name": name, "scopes": scopes})["token"]) for name in ("alice", "mallory")
        ]
        archive = write_zip(folder / "digits.zip", digit_members(range(2), train=4, test=2))
        with archive.open("rb") as file:
            dataset = made("/v1/datasets", data={"name": "digits"}, files={"archive": file})
        job = dataset["job_id"]
        while http.get(f"/v1/jobs/{job}").json()["status"] in ("queued", "running"):
            time.sleep(0.1)
        return Target(url, tokens[1], 1, str(dataset["id"]), str(job), seconds), tokens[0]


def _in_a_process(name: str, target: Target) -> Seen:
    """Run an abuse beside the honest client, not in its process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ours, theirs = context.Pipe()
    process = context.Process(target=_attack, args=(name, target, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        seen: Seen = ours.recv()
    except EOFError as error:
        raise RuntimeError(f"the abuse {name} failed") from error
    finally:
        process.kill()
        process.join()
    return seen


def _attack(name: str, target: Target, pipe: object) -> None:
    pipe.send(asyncio.run(attack(name, target)))  # type: ignore[attr-defined]


@contextmanager
def _watched_memory(pid: int, outcome: Outcome) -> Iterator[None]:
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.wait(0.5):
            outcome.peak_bytes = max(outcome.peak_bytes, _memory(pid))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _memory(pid: int) -> int:
    total = 0
    try:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:  # one that has just ended
        return total
    return total
