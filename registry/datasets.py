"""Data sets: identity, state, what they hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Text, cast, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import defer, load_only, undefer

from contract.collections import CollectionReport
from contract.datasets import DatasetKind, DatasetState
from contract.jobs import JobKind, Priority
from registry.errors import RequestRefusedError
from registry.filters import ANY, ListFilters
from registry.intake.choices import READER_VERSION, Choices
from registry.jobs import Jobs
from registry.paging import Page, read_page
from registry.references import names
from registry.repository import Repository
from registry.tables import DatasetRow


@dataclass(frozen=True)
class DatasetOptions:
    """What a user may specify about a data set, besides the upload.

    Attributes:
        display_names: From class to the name that prompts use; classes left out keep their own name.
        templates: Prompt templates with `{}`; empty means those of the upload, else the base's own.
        choices: How the upload is to be read.
        kind: `pool` for images without labels.
        is_collected: Whether the upload is a manifest of rows of other data sets.
        is_feedback: Whether the upload is a manifest of feedback, see `registry.corrections`.
    """

    display_names: tuple[tuple[str, str], ...] = ()
    templates: tuple[str, ...] = ()
    choices: Choices = field(default_factory=Choices)
    kind: DatasetKind = DatasetKind.LABELLED
    is_collected: bool = False
    is_feedback: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` reads back; what was not said is left out, so that ids stay the same."""
        plain = {"display_names": [list(pair) for pair in self.display_names], "templates": list(self.templates)}
        plain |= self.choices.as_json()
        plain |= {} if self.kind is DatasetKind.LABELLED else {"kind": self.kind.value}
        plain |= {"collected": True} if self.is_collected else {}
        return plain | ({"feedback": True} if self.is_feedback else {})

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DatasetOptions:
        """Return the options that `as_json` wrote."""
        pairs = tuple((folder, name) for folder, name in data["display_names"])
        kind = DatasetKind(data.get("kind", DatasetKind.LABELLED))
        manifests = data.get("collected", False), data.get("feedback", False)
        return cls(pairs, tuple(data["templates"]), Choices.from_json(data), kind, *manifests)


@dataclass(frozen=True)
class DatasetContent:
    """What ingest found in an archive.

    Attributes:
        classnames: Display names in label order.
        templates: Prompt templates; empty means the base's own.
        shards: From split to `{"sha256", "num_images"}` of its Parquet blob.
        counts: From split to classname to number of images.
        duplicates: Images that occur more than once.
        blob_bytes: Size of each shard by SHA-256; None: unknown.
        decoder: Version of the decoding rules, see `paint_core.images.decoding.DECODER`.
        test_digests: Blob of what the test images show, see `registry.digests`; None: unknown, or there are none.
        taken_from: For each split, the upload's split that its images come from, where the names differ.
        reading: How the upload was read, from `registry.intake.summary`; None: unknown.
        collected: Where the images come from, as a `CollectionReport`; None: from an upload.
    """

    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    shards: dict[str, Any]
    counts: dict[str, Any]
    rejected: list[Any]
    layout: str | None = None
    duplicates: dict[str, Any] | None = None
    blob_bytes: dict[str, int] | None = None
    decoder: int = 1
    test_digests: str | None = None
    taken_from: dict[str, str] | None = None
    reading: dict[str, Any] | None = None
    collected: dict[str, Any] | None = None

    def sha256(self) -> str:
        """Return a hash over classnames, templates and shards: equal content, equal hash."""
        identity = [self.classnames, self.templates, self.shards]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class StoredImages:
    """Where the images of a ready data set are.

    Attributes:
        classnames: Display names in label order; of a pool empty.
        shards: From split to `{"sha256", "num_images"}`.
        counts: From split to classname to number of images.
    """

    id: str
    kind: DatasetKind
    classnames: tuple[str, ...]
    shards: dict[str, Any]
    counts: dict[str, Any]
    decoder: int
    templates: tuple[str, ...] = ()

    def count(self, split: str, classname: str | None = None) -> int:
        """Return the number of images of a split, or of one of its classes."""
        if classname is None:
            return int(self.shards[split]["num_images"])
        return int(self.counts.get(split, {}).get(classname, 0))


def dataset_id(archive_sha256: str, options: DatasetOptions) -> str:
    """Return the id of the data set of this archive and these options; the same input gives the same id.

    It depends on the version of the reading rules, so an upload that an older release read differently is read again.
    """
    identity = json.dumps([archive_sha256, options.as_json(), READER_VERSION], sort_keys=True)
    return "ds_" + hashlib.sha256(identity.encode()).hexdigest()[:24]


def _derived_id(source_id: str, name: str, content: DatasetContent) -> str:
    identity = json.dumps([source_id, name, list(content.classnames), list(content.templates)])
    return "ds_" + hashlib.sha256(identity.encode()).hexdigest()[:24]


_BULK = (
    *(DatasetRow.classnames, DatasetRow.counts, DatasetRow.rejected),
    *(DatasetRow.duplicates, DatasetRow.templates, DatasetRow.options, DatasetRow.reading, DatasetRow.collected),
)
"""Columns that lists do not read."""

_OF_IMAGES = (
    *(DatasetRow.id, DatasetRow.name, DatasetRow.kind, DatasetRow.state, DatasetRow.job_id),
    *(DatasetRow.classnames, DatasetRow.shards, DatasetRow.counts, DatasetRow.decoder),
    DatasetRow.templates,
)


class Datasets(Repository):
    """Data sets within one transaction."""

    def existing(self, identifiers: Collection[str]) -> set[str]:
        """Return which of these ids name a data set."""
        return set(self._session.scalars(select(DatasetRow.id).where(DatasetRow.id.in_(identifiers))))

    def get(self, identifier: str) -> DatasetRow:
        """Return the data set, or raise `NotFoundError`."""
        return self._get(DatasetRow, identifier, "dataset")

    def hold(self, identifier: str) -> DatasetRow:
        """Return the data set, which cannot be deleted before the transaction ends; errors as for `get`."""
        query = select(DatasetRow).where(DatasetRow.id == identifier)
        row = self._session.scalar(query.with_for_update(read=True, key_share=True))
        return self.get(identifier) if row is None else row

    def rename(self, identifier: str, name: str) -> DatasetRow:
        """Return the data set under another name; its content never changes. Errors as for `get`."""
        row = self._get(DatasetRow, identifier, "dataset", locked=True)
        row.name = name
        return row

    def stored_images(self, identifier: str) -> StoredImages:
        """Return where the images of a data set are; errors as for `get` and `require_ready`."""
        query = select(DatasetRow).where(DatasetRow.id == identifier).options(load_only(*_OF_IMAGES))
        row = self._session.scalar(query) or self.get(identifier)
        require_ready(row)
        kind, names = DatasetKind(row.kind), tuple(row.classnames or ())
        counts, templates = row.counts or {}, tuple(row.templates or ())
        return StoredImages(row.id, kind, names, row.shards or {}, counts, row.decoder, templates)

    def newest(
        self,
        limit: int = 100,
        cursor: str | None = None,
        *,
        states: Collection[DatasetState] = (),
        reference: str | None = None,
        filters: ListFilters = ANY,
    ) -> Page[DatasetRow]:
        """Return a page of data sets, newest first, with the number of their classes."""
        keys = (DatasetRow.created_at, DatasetRow.id)
        query = select(DatasetRow).options(
            *(defer(column, raiseload=True) for column in _BULK),
            undefer(DatasetRow.num_classes),
        )
        if states:
            query = query.where(DatasetRow.state.in_([str(state) for state in states]))
        if reference is not None:
            query = query.where(names(reference, DatasetRow.id, DatasetRow.name, "ds_"))
        return read_page(self._session, filters.apply(query, DatasetRow), keys, limit, cursor)

    def submit(
        self,
        name: str,
        archive_sha256: str,
        options: DatasetOptions,
        owner: str | None = None,
        webhook_url: str | None = None,
        archive_bytes: int | None = None,
        collected: CollectionReport | None = None,
    ) -> tuple[DatasetRow, bool]:
        """Return the data set of this archive and whether a new ingest job was made for it.

        The same archive and options return the existing data set, whoever owns it. A failed one is tried again and then
        belongs to the new owner.

        Args:
            archive_bytes: Size of the upload, which counts as stored until the job has ended.
            collected: Where the images come from; the sources cannot be deleted while the job is unfinished.
        """
        for source in collected.sources if collected is not None else ():
            require_ready(self.hold(source.dataset_id))
        identifier = dataset_id(archive_sha256, options)
        row = self._session.get(DatasetRow, identifier, with_for_update=True, populate_existing=True)
        if row is not None and row.state != DatasetState.FAILED:
            return row, False
        if row is None:
            row = DatasetRow(
                id=identifier, archive_sha256=archive_sha256, options=options.as_json(), created_at=self._now()
            )
        row.blob_bytes = None if archive_bytes is None else {archive_sha256: archive_bytes}
        row.collected = None if collected is None else collected.to_json()
        try:
            with self._session.begin_nested():
                self._start(row, name, owner, webhook_url)
        except IntegrityError:  # another request has just submitted it
            return self.get(identifier), False
        return row, True

    def complete(self, identifier: str, content: DatasetContent) -> None:
        """Make the data set ready, for good."""
        row = self.get(identifier)
        row.state = DatasetState.READY
        self._fill(row, content)

    def derive(
        self, source: DatasetRow, name: str, content: DatasetContent, owner: str | None = None
    ) -> tuple[DatasetRow, bool]:
        """Return a data set with another one's images under other names or templates, and whether it was just created.

        Args:
            name: Display name; part of the identity, since it may be the only difference.

        Returns:
            The row; the same source, name, classes and templates return the existing one.
        """
        identifier = _derived_id(source.id, name, content)
        row = self._session.get(DatasetRow, identifier)
        if row is not None:
            return row, False
        row = DatasetRow(
            id=identifier,
            name=name,
            state=DatasetState.READY,
            archive_sha256=source.archive_sha256,
            options=source.options,
            job_id=source.job_id,  # made the shards
            derived_from=source.id,
            kind=source.kind,
            owner=owner,
            created_at=self._now(),
        )
        try:
            with self._session.begin_nested():
                self._session.add(row)
                self._fill(row, content)
        except IntegrityError:  # another request has just derived it
            return self.get(identifier), False
        return row, True

    def collecting_from(self, identifier: str) -> Sequence[DatasetRow]:
        """Return the data sets that are being collected from a data set, oldest first."""
        named = cast(DatasetRow.collected, Text).contains(f'"{identifier}"', autoescape=True)
        query = select(DatasetRow).where(DatasetRow.state == DatasetState.INGESTING, named)
        return self._session.scalars(query.order_by(DatasetRow.created_at, DatasetRow.id)).all()

    def archive_in_use(self, archive_sha256: str) -> bool:
        """Return whether a data set that is still being ingested needs this archive."""
        query = select(func.count()).where(
            DatasetRow.archive_sha256 == archive_sha256, DatasetRow.state == DatasetState.INGESTING
        )
        return bool(self._session.scalar(query))

    def _start(self, row: DatasetRow, name: str, owner: str | None, webhook_url: str | None) -> None:
        jobs = Jobs(self._session, self._now)
        # It takes seconds, and patches wait for it.
        job = jobs.create(JobKind.INGEST, row.id, owner, priority=Priority.HIGH, webhook_url=webhook_url)
        row.name, row.state, row.job_id, row.owner = name, DatasetState.INGESTING, job.id, owner
        row.kind = row.options.get("kind", DatasetKind.LABELLED)
        self._session.add(row)

    def _fill(self, row: DatasetRow, content: DatasetContent) -> None:
        row.classnames, row.templates = list(content.classnames), list(content.templates)
        row.shards, row.counts, row.rejected = content.shards, content.counts, content.rejected
        row.layout, row.duplicates, row.blob_bytes = content.layout, content.duplicates, content.blob_bytes
        row.decoder, row.taken_from = content.decoder, content.taken_from
        row.test_digests = content.test_digests
        row.reading, row.content_sha256 = content.reading, content.sha256()
        row.collected = content.collected


def require_ready(row: DatasetRow) -> None:
    """Refuse a data set that cannot be used yet, or never will be.

    Raises:
        RequestRefusedError: It is still being read, or could not be.
    """
    if row.state == DatasetState.READY:
        return
    has_failed = row.state == DatasetState.FAILED
    wait = f"Wait until job {row.job_id} has succeeded, then retry."
    repair = f"See job {row.job_id} for the error. Upload it again."
    raise RequestRefusedError(
        "dataset_not_ready",
        f"Data set {row.id} ({row.name!r}) {'could not be read' if has_failed else 'is still being read'}.",
        repair if has_failed else wait,
    )
