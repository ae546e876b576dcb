"""What each step of a job gets: the job, its lease, and the resources that it may use."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from registry.blobs import BlobStore
from registry.database import Database
from registry.leases import Lease
from worker.messages import Channel
from worker.settings import WorkerSettings


def remove_scratch(scratch_dir: Path, job_id: str) -> None:
    """Remove the temporary files that attempts at a job have left."""
    for folder in scratch_dir.glob(f"{job_id}-*"):
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class JobContext:
    """One attempt at a job, inside the trainer process.

    Attributes:
        subject_id: Id of the job's data set or patch.
        checkpoint: Where the last attempt got to; empty at the first.
        lease: Goes with every write to the database.
        database: The source of truth.
        blobs: The blob store.
        channel: To the supervisor.
        settings: The worker's settings.
        part: The task that a child job fine-tunes; None: not a child job.
    """

    subject_id: str
    checkpoint: dict[str, Any]
    lease: Lease
    database: Database
    blobs: BlobStore
    channel: Channel
    settings: WorkerSettings
    part: str | None = None

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a folder for temporary files, removed afterwards."""
        self.settings.scratch_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with TemporaryDirectory(dir=self.settings.scratch_dir, prefix=f"{self.lease.job_id}-") as folder:
            yield Path(folder)
