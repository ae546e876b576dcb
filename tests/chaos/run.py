"""One run: an installation, a client that asks for jobs, strikes, and the promises that must hold afterwards."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from contract.jobs import JobStatus
from registry.blobs import FileBlobStore
from registry.database import Database
from registry.tables import JobRow
from tests.chaos.clients import Asked, ask, prepare
from tests.chaos.havoc import EVERY_KIND, Havoc
from tests.chaos.installation import Installation
from tests.chaos.promises import find_broken

_JOBS_PER_STRIKE = 4
_MEAN_SECONDS = 0.9
_WAITS = (JobStatus.QUEUED, JobStatus.RUNNING)


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    seed: int
    seconds: float
    statuses: dict[str, int]
    attempts: dict[int, int]
    struck: dict[str, int]
    requests_repeated: int
    broken: list[str]


def run(folder: Path, num_jobs: int, seed: int, on_event: Callable[[str], None] = lambda _: None) -> Outcome:
    """Run so many jobs through three workers while processes die, and look at what is left."""
    installation = Installation(folder, on_event)
    try:
        installation.start()
        datasets = prepare(installation.url, folder)
        known = set(_count(installation.database))
        started = time.monotonic()
        asked = ask(installation.url, folder, datasets, num_jobs, seed)
        havoc = Havoc(
            installation, random.Random(seed), max(num_jobs // _JOBS_PER_STRIKE, len(EVERY_KIND)), _MEAN_SECONDS
        )
        _until_the_end(installation, asked, havoc, started + 120 + 2 * num_jobs)
        seconds = time.monotonic() - started
        jobs = {job: each for job, each in _count(installation.database).items() if job not in known}
        blobs = FileBlobStore(installation.data_dir / "blobs")
        broken = find_broken(installation.database, blobs, asked, num_jobs, known)
        broken += [f"{kind} was never struck" for kind in EVERY_KIND if not havoc.struck[kind]]
    finally:
        installation.stop()
    broken += [f"trainer {each.pid} was left behind" for each in installation.trainers()]
    return Outcome(
        seed,
        round(seconds, 1),
        dict(Counter(status for status, _ in jobs.values())),
        dict(sorted(Counter(attempt for _, attempt in jobs.values()).items())),
        dict(havoc.struck),
        asked.repeated,
        broken,
    )


def _until_the_end(installation: Installation, asked: Asked, havoc: Havoc, deadline: float) -> None:
    look_at = 0.0
    while time.monotonic() < deadline:
        installation.supervisor.poll()
        havoc.maybe_strike()
        time.sleep(0.02)
        if asked.done and time.monotonic() >= look_at:
            look_at = time.monotonic() + 0.3
            if _num_unfinished(installation.database) == 0:
                return


def _num_unfinished(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).where(JobRow.status.in_(_WAITS))) or 0


def _count(database: Database) -> dict[str, tuple[str, int]]:
    with database.read() as session:
        asked_for = JobRow.parent_id.is_(None)  # the others do parts of those
        rows = session.execute(select(JobRow.id, JobRow.status, JobRow.attempt).where(asked_for))
        return {job_id: (status, attempt) for job_id, status, attempt in rows}
