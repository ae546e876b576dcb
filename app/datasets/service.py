"""Taking in archives, and telling about data sets."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import structlog
from sqlalchemy.exc import IntegrityError

from app.datasets.schemas import MAX_REJECTED, Dataset, DatasetBrief, DatasetList, Derivation
from app.datasets.uploads.service import UploadsDep
from app.http.dependencies import BlobsDep, SettingsDep, built
from app.jobs.quota import check_quota
from app.jobs.unit_of_work import UnitsOfWorkDep
from app.jobs.webhooks.targets import check_target
from app.labels.stored import StoredLabels
from app.storage.service import StorageDep
from contract.collections import CollectionReport
from contract.datasets import DatasetKind, DatasetState
from registry.database import Database
from registry.datasets import DatasetContent, DatasetOptions, Datasets, dataset_id
from registry.errors import NotFoundError, RequestRefusedError
from registry.filters import ANY, ListFilters
from registry.intake.classnames import name_classes
from registry.intake.reading import look, look_at_pool
from registry.jobs import Jobs
from registry.removal import Removal
from registry.tables import DatasetRow

_COPY_BYTES = 1 << 20
_looking = threading.Lock()
"""One archive is inspected at a time, so that many uploads use at most one core."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Submission:
    """The fields of an upload.

    Attributes:
        name: Display name.
        options: How to read it.
        owner: Owner, by the name on their key.
        webhook_url: Notified when the job has ended; not if the data set exists already, because there is no job then.
        idempotency_key: The same request with the same key returns the same data set.
        collected: Where the images of a collected data set come from; None: from an upload.
    """

    name: str
    options: DatasetOptions
    owner: str | None = None
    webhook_url: str | None = None
    idempotency_key: str | None = None
    collected: CollectionReport | None = None

    def digest(self, source: str) -> str:
        """Return a hash of the request: the same one again, or another one with the same key?"""
        asked = [source, self.name, self.options.as_json(), self.webhook_url]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


class Submitted(NamedTuple):
    """The result of an upload.

    Attributes:
        dataset: The data set.
        is_new: Whether a job was queued for it.
        is_repeated: Whether an earlier request with the same key created it.
    """

    dataset: Dataset
    is_new: bool
    is_repeated: bool = False


def list_datasets(
    database: Database,
    limit: int,
    cursor: str | None,
    states: Collection[DatasetState] = (),
    reference: str | None = None,
    filters: ListFilters = ANY,
) -> DatasetList:
    """Return a page of data sets, newest first."""
    with database.read() as session:
        page = Datasets(session).newest(limit, cursor, states=states, reference=reference, filters=filters)
        jobs = Jobs(session).by_ids([row.job_id for row in page])
        return DatasetList(items=[DatasetBrief.of(row, jobs[row.job_id]) for row in page], next_cursor=page.next_cursor)


def get_dataset(database: Database, identifier: str) -> Dataset:
    """Return the data set."""
    with database.read() as session:
        row = Datasets(session).get(identifier)
        return Dataset.of(row, Jobs(session).get(row.job_id))


def rename_dataset(database: Database, identifier: str, name: str) -> Dataset:
    """Return the data set under another name."""
    with database.write() as session:
        row = Datasets(session).rename(identifier, name)
        return Dataset.of(row, Jobs(session).get(row.job_id))


def delete_dataset(database: Database, labels: StoredLabels, identifier: str, *, force: bool) -> None:
    """Delete the data set; other processes evict it from their caches soon.

    With `force`, it may still be named by patches that have ended.
    """
    with database.write() as session:
        Removal(session).delete_dataset(identifier, force=force)
    labels.evict(identifier)
    _log.info("data set deleted", dataset=identifier, force=force)


@dataclass(frozen=True)
class DatasetIntake:
    """Creates data sets from uploads."""

    units: UnitsOfWorkDep
    blobs: BlobsDep
    storage: StorageDep
    uploads: UploadsDep
    settings: SettingsDep

    def submit(self, archive: BinaryIO, asked: Submission) -> Submitted:
        """Return the data set of an archive, which is closed by this to free its disk space early.

        An archive that its file names show to be hostile or useless is rejected before it is stored; the job checks
        contents.
        """
        with tempfile.NamedTemporaryFile(dir=self.settings.scratch_dir, prefix="upload-") as file:
            shutil.copyfileobj(archive, file, _COPY_BYTES)
            archive.close()
            file.flush()
            self.storage.require_quota(asked.owner, file.tell())  # the length of a chunked body was unknown before
            return self._submit_file(Path(file.name), asked)

    def submit_upload(self, upload_id: str, asked: Submission) -> Submitted:
        """Return the data set of a complete resumable upload, which is then removed."""
        repeated = self._find_repeated(asked, upload_id)
        if repeated is not None:
            return repeated
        found = self._submit_file(self.uploads.get_complete(upload_id).path, asked, upload_id)
        with suppress(NotFoundError):  # the same request was processed concurrently
            self.uploads.remove(upload_id)
        return found

    def submit_manifest(self, manifest: bytes, asked: Submission) -> Submitted:
        """Return the data set that is collected as a manifest says."""
        self._check_webhook(asked)
        with tempfile.NamedTemporaryFile(dir=self.settings.scratch_dir, prefix="manifest-") as file:
            file.write(manifest)
            file.flush()
            return self._submit_checked(Path(file.name), asked)

    def _submit_file(self, path: Path, asked: Submission, upload_id: str | None = None) -> Submitted:
        """Return the data set of an archive, if its names allow one."""
        self._check_webhook(asked)
        options = asked.options
        with _looking:
            if options.kind is DatasetKind.POOL:
                look_at_pool(path)
                classes = None
            else:
                classes = look(path, options.choices)
        if classes is not None:
            name_classes(classes, {}, dict(options.display_names))
        return self._submit_checked(path, asked, upload_id)

    def _check_webhook(self, asked: Submission) -> None:
        if asked.webhook_url is not None:
            check_target(asked.webhook_url, self.settings.webhook_hosts)

    def _submit_checked(self, path: Path, asked: Submission, upload_id: str | None = None) -> Submitted:
        """Return the data set of a file; the key is stored before an upload is removed, so that a retry succeeds."""
        with path.open("rb") as file:
            identifier = dataset_id(hashlib.file_digest(file, "sha256").hexdigest(), asked.options)
        repeated = self._find_repeated(asked, identifier) if upload_id is None else None
        if repeated is not None:
            return repeated
        existing = self._find_usable(identifier)
        found = self._start(path, asked) if existing is None else Submitted(existing, is_new=False)
        self._keep_key(asked, upload_id or identifier, found.dataset.id)
        return found

    def _find_repeated(self, asked: Submission, source: str) -> Submitted | None:
        """Return the result of an earlier request with the same key, if there was one."""
        if asked.idempotency_key is None:
            return None
        with self.units.begin() as unit:
            known = unit.keys.find(asked.owner, asked.idempotency_key, asked.digest(source))
        if known is None:
            return None
        return Submitted(get_dataset(self.units.database, known), is_new=False, is_repeated=True)

    def _keep_key(self, asked: Submission, source: str, identifier: str) -> None:
        if asked.idempotency_key is None:
            return
        with suppress(IntegrityError), self.units.begin() as unit:  # the same request was sent twice concurrently
            unit.keys.keep(asked.owner, asked.idempotency_key, asked.digest(source), identifier)

    def _start(self, path: Path, asked: Submission) -> Submitted:
        archive_sha256 = self.blobs.put_file(path)
        with self.units.begin() as unit:
            check_quota(unit.session, asked.owner, self.settings.max_unfinished_jobs)
            row, created = unit.datasets.submit(
                asked.name,
                archive_sha256,
                asked.options,
                asked.owner,
                asked.webhook_url,
                archive_bytes=path.stat().st_size,
                collected=asked.collected,
            )
            if created:
                # Another ingest of the same bytes may delete the archive before it sees that this one needs it.
                unit.after_commit(partial(self.blobs.put_file, path))
                unit.dispatch([row.job_id])
            dataset = Dataset.of(row, unit.jobs.get(row.job_id))
        if created:
            _log.info("ingest queued", dataset=dataset.id, job_id=dataset.job_id)
        return Submitted(dataset, created)

    def _find_usable(self, identifier: str) -> Dataset | None:
        """Return the data set if it already exists, so that its archive is not stored again."""
        try:
            dataset = get_dataset(self.units.database, identifier)
        except NotFoundError:
            return None
        return None if dataset.state is DatasetState.FAILED else dataset


DatasetIntakeDep = Annotated[DatasetIntake, built(DatasetIntake)]


def derive(database: Database, identifier: str, body: Derivation, owner: str | None = None) -> tuple[Dataset, bool]:
    """Return a data set with the images of another one and other words, and whether it is new.

    Raises:
        RequestRefusedError: The other one is not ready, or the names do not fit it.
    """
    with database.write() as session:
        datasets = Datasets(session)
        source = datasets.hold(identifier)
        if source.state != DatasetState.READY:
            raise RequestRefusedError("dataset_not_ready", _not_ready(source), f"See job {source.job_id}.")
        row, created = datasets.derive(source, body.name, _reword(source, body), owner)
        return Dataset.of(row, Jobs(session).get(row.job_id)), created


def _not_ready(row: DatasetRow) -> str:
    has_failed = row.state == DatasetState.FAILED
    return f"Data set {row.id} {'could not be read' if has_failed else 'is still being read'}."


def _reword(source: DatasetRow, body: Derivation) -> DatasetContent:
    """Return the content of the source with other names and templates."""
    present = tuple(source.classnames or ())
    classnames = name_classes(present, {}, body.classnames, "data set")
    renamed = dict(zip(present, classnames, strict=True))
    counts = source.counts or {}
    return DatasetContent(
        classnames=classnames,
        templates=tuple(source.templates or ()) if body.templates is None else body.templates,
        shards=source.shards or {},
        counts={split: {renamed[name]: count for name, count in each.items()} for split, each in counts.items()},
        rejected=(source.rejected or [])[:MAX_REJECTED],
        layout=source.layout,
        duplicates=source.duplicates,
        blob_bytes=source.blob_bytes,
        decoder=source.decoder,
        test_digests=source.test_digests,
        taken_from=source.taken_from,
        reading=source.reading,
        collected=source.collected,
    )
