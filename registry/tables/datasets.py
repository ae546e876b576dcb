"""Data sets, label sets, and blobs that nothing uses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, func
from sqlalchemy.orm import Mapped, column_property, mapped_column

from registry.orm import Base


class DatasetRow(Base):
    """A set of images, labelled or a pool: `ingesting`, then `ready` and immutable, or `failed`."""

    __tablename__ = "datasets"
    __table_args__ = (
        Index("ix_datasets_created", "created_at", "id"),
        Index("ix_datasets_owner", "owner", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(16))
    archive_sha256: Mapped[str] = mapped_column(String(64))
    options: Mapped[dict[str, Any]]
    job_id: Mapped[str] = mapped_column(String(40))
    classnames: Mapped[list[Any] | None] = mapped_column()
    num_classes: Mapped[int | None] = column_property(func.json_array_length(classnames), deferred=True)
    templates: Mapped[list[Any] | None]
    shards: Mapped[dict[str, Any] | None]
    counts: Mapped[dict[str, Any] | None]
    rejected: Mapped[list[Any] | None]
    content_sha256: Mapped[str | None] = mapped_column(String(64))
    layout: Mapped[str | None] = mapped_column(String(32))
    duplicates: Mapped[dict[str, Any] | None]
    reading: Mapped[dict[str, Any] | None]  # how the upload was read
    blob_bytes: Mapped[dict[str, Any] | None]  # size of each blob that it needs, by SHA-256; null: not known
    derived_from: Mapped[str | None] = mapped_column(String(40))
    collected: Mapped[dict[str, Any] | None]  # a `CollectionReport`: where its images come from
    kind: Mapped[str] = mapped_column(String(16), default="labelled", server_default="labelled")  # a `DatasetKind`
    decoder: Mapped[int] = mapped_column(default=1, server_default="1")  # what its files' pixels are: `DECODER`
    test_digests: Mapped[str | None] = mapped_column(String(64))  # blob: what its test images show, `registry.digests`
    taken_from: Mapped[dict[str, Any] | None]  # the upload's split by our split, where they differ
    owner: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]


class LabelSetRow(Base):
    """Labels and templates that requests name by id, which is the hash of both. Immutable."""

    __tablename__ = "label_sets"
    __table_args__ = (
        Index("ix_label_sets_created", "created_at", "id"),
        Index("ix_label_sets_owner", "owner", "num_bytes"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(200))
    labels: Mapped[list[Any]]
    num_labels: Mapped[int]  # so that a list need not read the labels
    num_bytes: Mapped[int] = mapped_column(default=0, server_default="0")  # of labels and templates
    templates: Mapped[list[Any]]
    owner: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]


class UnusedBlobRow(Base):
    """A blob whose last known user has been deleted. The next collection deletes it unless it is in use again."""

    __tablename__ = "unused_blobs"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[datetime]
