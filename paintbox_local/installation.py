"""A private installation in a temporary folder, whose jobs are done in this process."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.datasets import DatasetState
from contract.jobs import JobKind
from contract.patch_request import PatchRequest
from paint_core.models import BaseModel, load_base
from paintbox_client.archives import Folder, title_of, write_archive
from paintbox_client.display import print_note, show_progress
from paintbox_client.errors import ClientError, InputError
from pipeline.devices import choose_device
from registry.blob_stores import open_blobs
from registry.blobs import BlobStore
from registry.database import Database
from registry.datasets import DatasetOptions, Datasets
from registry.jobs import Jobs
from registry.patches import Patches
from registry.startup import open_database, prepare_database
from registry.versions import Versions
from worker.faults import describe_fault
from worker.job_context import JobContext
from worker.messages import Channel, Message, Note, Progress
from worker.settings import WorkerSettings
from worker.steps.ingest import ingest
from worker.steps.patch import patch

_LEASE_SECONDS = 365 * 86_400.0
"""No other worker waits for a job of a private installation."""

_STEPS: Mapping[JobKind, Callable[[JobContext], None]] = {JobKind.INGEST: ingest, JobKind.PATCH: patch}


class LocalJobError(ClientError):
    """A job cannot be done; `code` is that of the service."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code

    def as_json(self) -> dict[str, Any]:
        """Return the error as JSON."""
        return {**super().as_json(), "code": self.code}


class _Shown(Channel):
    """Shows what a step tells its supervisor; checkpoints are of no use to anyone here."""

    def __init__(self, show: Callable[[dict[str, Any]], object]) -> None:
        super().__init__(io.StringIO())
        self._show = show

    def send(self, message: Message) -> None:
        """Show the message."""
        if isinstance(message, Progress):
            self._show({"status": "running", **vars(message)})
        elif isinstance(message, Note) and message.level == "warning":
            print_note(message.message)


@dataclass(frozen=True)
class Installation:
    """A private installation with one base model.

    Attributes:
        base: The base, as the API of a service would have it loaded.
    """

    settings: WorkerSettings
    database: Database
    blobs: BlobStore
    base: BaseModel

    def add_dataset(self, source: Path, templates: tuple[str, ...] = (), title: str | None = None) -> str:
        """Return the id of the data set of a folder or archive, ready for use.

        Raises:
            InputError: There is no such file or folder.
            LocalJobError: It cannot be read as a data set.
        """
        if not source.exists():
            raise InputError(f"No such file or folder: {str(source)[:200]!r}.", "Choose a folder with images.")
        name = title or title_of(source)
        with self._archive(source) as archive:
            sha256, num_bytes = self.blobs.put_file(archive), archive.stat().st_size
        with self.database.write() as session:
            options = DatasetOptions(templates=templates)
            row, _ = Datasets(session).submit(name, sha256, options, archive_bytes=num_bytes)
        if row.state != DatasetState.READY:
            self._run(row.job_id, f"Reading {name}")
        return row.id

    def patch(self, request: PatchRequest) -> str:
        """Return the id of a finished patch.

        Raises:
            LocalJobError: It cannot be done.
        """
        with self.database.write() as session:
            row = Patches(session).submit(request, self.base.ref)
        self._run(row.job_id, "Patching")
        return row.id

    @contextmanager
    def _archive(self, source: Path) -> Iterator[Path]:
        if not source.is_dir():
            yield source
            return
        with tempfile.TemporaryDirectory(dir=self.settings.scratch_dir) as name:
            archive, folder = Path(name) / "upload.zip", Folder(source)
            if write_archive(archive, folder.members()) == 0:
                raise InputError(f"{source} contains no files.", "Choose a folder with images.")
            for note in folder.notes:
                print_note(note)
            yield archive

    def _run(self, job_id: str, title: str) -> None:
        """Do a job as a trainer does, in this process."""
        with self.database.write() as session:
            lease = Jobs(session).lease(job_id, "paintbox local", _LEASE_SECONDS)
            job = Jobs(session).get(job_id)
            kind, subject = JobKind(job.kind), job.subject_id
        assert lease is not None  # nobody else knows of the job
        with show_progress(title) as show:
            stores = (self.database, self.blobs)
            context = JobContext(subject, {}, lease, *stores, _Shown(show), self.settings)
            try:
                _STEPS[kind](context)
            except Exception as error:
                fault = describe_fault(error, kind)
                raise LocalJobError(getattr(fault, "code", "storage_full"), fault.detail) from error
            show({"status": "succeeded", "stage": None, "progress": 1.0})


@contextmanager
def open_installation(place: Path, base_ref: str, device: str) -> Iterator[Installation]:
    """Yield an installation in a temporary folder below `place`, which is removed afterwards.

    Args:
        place: A folder with room for copies of all images.
        base_ref: Reference of the base model.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
    """
    with tempfile.TemporaryDirectory(dir=place, prefix=".paintbox-") as folder:
        # Whatever the environment says of a service on this machine is not meant.
        apart = {"database_url": "", "blob_url": "", "max_supported_drop": None, "webhook_url": None}
        settings = WorkerSettings.load(data_dir=Path(folder).resolve(), device=device, bases=(base_ref,), **apart)
        settings.make_directories()
        database = open_database(settings.resolved_database_url)
        try:
            prepare_database(database, settings)
            base = load_base(base_ref, device=choose_device(device))
            with database.write() as session:
                Versions(session).ensure_base(
                    ref=base.ref, fingerprint=base.fingerprint, embed_dim=base.embed_dim, image_size=base.image_size
                )
            yield Installation(settings, database, open_blobs(settings), base)
        finally:
            database.close()
