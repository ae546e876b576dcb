"""The database tables. Only modules of this package read or write them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, func
from sqlalchemy.orm import Mapped, column_property, mapped_column

from registry.orm import Base as Base


class DatasetRow(Base):
    """A set of images, labelled or a pool: `ingesting`, then `ready` and immutable, or `failed`."""

    __tablename__ = "datasets"
    __table_args__ = (Index("ix_datasets_created", "created_at", "id"), Index("ix_datasets_owner", "owner"))

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
    kind: Mapped[str] = mapped_column(String(16), default="labelled", server_default="labelled")  # a `DatasetKind`
    decoder: Mapped[int] = mapped_column(default=1, server_default="1")  # what its files' pixels are: `DECODER`
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


class BaseModelRow(Base):
    """A base model that versions are mixed from, known by the fingerprint of its weights."""

    __tablename__ = "base_models"

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    ref: Mapped[str] = mapped_column(String(500), unique=True)
    embed_dim: Mapped[int]
    image_size: Mapped[int]
    created_at: Mapped[datetime]


class TaskVectorRow(Base):
    """A stored task vector: what fine-tuning added to the base's image tower."""

    __tablename__ = "task_vectors"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    base_fingerprint: Mapped[str] = mapped_column(ForeignKey("base_models.fingerprint"))
    num_bytes: Mapped[int]
    relative_norm: Mapped[float]
    job_id: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[datetime]


class VersionRow(Base):
    """An immutable mix: a base and the terms in `version_terms`. `job_id` is unique: one job, at most one version."""

    __tablename__ = "versions"
    __table_args__ = ({"sqlite_autoincrement": True},)  # an id is never used again, even after a deletion

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(200))
    base_fingerprint: Mapped[str] = mapped_column(ForeignKey("base_models.fingerprint"))
    patch_id: Mapped[str | None] = mapped_column(ForeignKey("patches.id"))
    job_id: Mapped[str | None] = mapped_column(String(40), unique=True)
    probe: Mapped[list[Any]]
    lineage: Mapped[dict[str, Any]]
    owner: Mapped[str | None] = mapped_column(String(64))
    weights_fingerprint: Mapped[str | None] = mapped_column(String(64))  # of the mixed image tower
    evaluation: Mapped[dict[str, Any] | None]
    routing: Mapped[str] = mapped_column(String(16), default="none", server_default="none")  # a `RoutingMode`
    patched_names: Mapped[dict[str, Any] | None]  # `NameAccuracy` by name
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]  # when it went to the trash


class VersionTagRow(Base):
    """A label by which users find a version."""

    __tablename__ = "version_tags"
    __table_args__ = (Index("ix_version_tags_tag", "tag", "version_id"),)

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)


class VersionParentRow(Base):
    """A version that another one was made from: whose terms it took, or whose training its task vectors come from."""

    __tablename__ = "version_parents"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True, index=True)


class VersionTermRow(Base):
    """One term of a version: coefficient x profile x task vector."""

    __tablename__ = "version_terms"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    task_vector_sha256: Mapped[str] = mapped_column(ForeignKey("task_vectors.sha256"))
    coefficient: Mapped[float]
    profile: Mapped[str] = mapped_column(String(16))


class AliasRow(Base):
    """A movable name of a version."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    updated_at: Mapped[datetime]


class AliasHistoryRow(Base):
    """Append-only: every move of every alias; a row without a target version records the alias's deletion."""

    __tablename__ = "alias_history"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    alias: Mapped[str] = mapped_column(String(64), index=True)
    from_version_id: Mapped[int | None]
    to_version_id: Mapped[int | None]
    actor: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(String(1000))
    forced: Mapped[bool] = mapped_column(default=False)  # overrode the guard
    restores_id: Mapped[int | None]  # for a rollback: the move that it restores, never a rollback
    at: Mapped[datetime]


class AliasApprovalRow(Base):
    """A move of an alias that was requested and that somebody else approves or rejects: an `ApprovalState`."""

    __tablename__ = "alias_approvals"
    __table_args__ = (Index("ix_alias_approvals_alias", "alias", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    alias: Mapped[str] = mapped_column(String(64))
    version_id: Mapped[int]  # no foreign key: a purge must not wait for it
    revision: Mapped[int]  # of the alias when the move was requested; 0: there was none
    reason: Mapped[str] = mapped_column(String(1000))
    forced: Mapped[bool]
    state: Mapped[str] = mapped_column(String(16))
    requested_by: Mapped[str] = mapped_column(String(200))
    requester_key: Mapped[str | None] = mapped_column(String(40))  # id of the key; null: a patch, or no key
    decided_by: Mapped[str | None] = mapped_column(String(200))
    decision_reason: Mapped[str | None] = mapped_column(String(1000))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]


class PatchRow(Base):
    """A request to patch, the job that does it, and its report once there is one."""

    __tablename__ = "patches"
    __table_args__ = (Index("ix_patches_created", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    request: Mapped[dict[str, Any]]
    base_fingerprint: Mapped[str] = mapped_column(ForeignKey("base_models.fingerprint"))
    job_id: Mapped[str] = mapped_column(String(40))
    version_id: Mapped[int | None]
    report: Mapped[dict[str, Any] | None]
    owner: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]


class EvaluationRow(Base):
    """A request to evaluate versions on a data set, the job that does it, and its report once there is one."""

    __tablename__ = "evaluations"
    __table_args__ = (
        Index("ix_evaluations_created", "created_at", "id"),
        Index("ix_evaluations_dataset", "dataset_id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    request: Mapped[dict[str, Any]]
    version_ids: Mapped[list[Any]]
    dataset_id: Mapped[str] = mapped_column(String(40))
    split: Mapped[str] = mapped_column(String(16))
    base_fingerprint: Mapped[str] = mapped_column(ForeignKey("base_models.fingerprint"))
    job_id: Mapped[str] = mapped_column(String(40))
    report: Mapped[dict[str, Any] | None]
    owner: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]


class MeasurementRow(Base):
    """What some weights answered to the images of a split, whoever asked: it belongs to the weights, not to a version.

    `id` is a hash of the weights' fingerprint, the data set, the split and the head.
    """

    __tablename__ = "measurements"
    __table_args__ = (
        Index("ix_measurements_dataset", "dataset_id", "split"),
        Index("ix_measurements_weights", "weights_fingerprint"),
        Index("ix_measurements_patch", "patch_id"),
        Index("ix_measurements_owner", "owner", "num_bytes"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    weights_fingerprint: Mapped[str] = mapped_column(String(64))
    dataset_id: Mapped[str] = mapped_column(String(40))
    split: Mapped[str] = mapped_column(String(16))
    head_id: Mapped[str] = mapped_column(String(40))  # the label set with the same labels and templates
    is_own_head: Mapped[bool]  # whether labels and templates are the data set's own, as for tasks of a patch
    num_images: Mapped[int]
    result: Mapped[dict[str, Any] | None]  # a `Measurement`; null: the images have no labels
    predictions_sha256: Mapped[str] = mapped_column(String(64))  # one row per image: `registry.predictions`
    num_bytes: Mapped[int]  # of the predictions
    patch_id: Mapped[str | None] = mapped_column(String(40))  # the patch that measured; null: an evaluation did
    owner: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]


class JobRow(Base):
    """One queued unit of work and its lease. This row is the source of truth, never the broker."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_status_lease", "status", "lease_expires_at"),
        Index("ix_jobs_created", "created_at", "id"),
        Index("ix_jobs_parent", "parent_id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    subject_id: Mapped[str] = mapped_column(String(40), index=True)
    parent_id: Mapped[str | None] = mapped_column(String(40))  # the job that this one is a child of
    part: Mapped[str | None] = mapped_column(String(64))  # the task that a child job fine-tunes
    status: Mapped[str] = mapped_column(String(16))
    stage: Mapped[str | None] = mapped_column(String(32))
    progress: Mapped[float] = mapped_column(default=0.0)
    eta_seconds: Mapped[float | None]
    attempt: Mapped[int] = mapped_column(default=0)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    checkpoint: Mapped[dict[str, Any] | None]
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_token: Mapped[int] = mapped_column(default=0)
    lease_expires_at: Mapped[datetime | None]
    lease_renewed_at: Mapped[datetime | None]
    dispatched_at: Mapped[datetime | None] = mapped_column("rung_at")  # when workers were last told of it
    queued_at: Mapped[datetime | None]  # None: when it was created
    progress_at: Mapped[datetime | None]  # when its trainer last reported anything
    paused_until: Mapped[datetime | None]  # not leased before
    num_setbacks: Mapped[int] = mapped_column(default=0, server_default="0")  # pauses since it last made progress
    priority: Mapped[int] = mapped_column(default=1, server_default="1")  # a `Priority`
    webhook_url: Mapped[str | None] = mapped_column(String(2000))
    owner: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobAttemptRow(Base):
    """One worker's attempt at a job, by the token of its lease, and why it ended."""

    __tablename__ = "job_attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    token: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    worker: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    stage: Mapped[str | None] = mapped_column(String(32))
    cause: Mapped[str | None] = mapped_column(String(32))
    detail: Mapped[str | None]
    log_tail: Mapped[str | None]


class JobEventRow(Base):
    """Append-only: what happened to a job, in order."""

    __tablename__ = "job_events"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    at: Mapped[datetime]
    level: Mapped[str] = mapped_column(String(8))
    message: Mapped[str]
    data: Mapped[dict[str, Any] | None]


class WebhookDeliveryRow(Base):
    """A message about a finished job or a moved alias: pending, delivered or abandoned."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)  # null: about an alias
    url: Mapped[str] = mapped_column(String(2000))
    payload: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    num_tries: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime | None] = mapped_column(index=True)  # when to try next; None: never
    last_error: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[datetime]


class IdempotencyKeyRow(Base):
    """A request that was carried out, by its owner and the client's key for it."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(String(64), primary_key=True)  # empty: requested without an API key
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    subject_id: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[datetime]


class ApiKeyRow(Base):
    """An API key, by the hash of its token. It stays when it is revoked: owners and history refer to it."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_created", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[Any]]
    sha256: Mapped[str] = mapped_column(String(64))
    created_by: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class ReplicaRow(Base):
    """An API process that registers itself. It is removed when it has not been seen for long."""

    __tablename__ = "replicas"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    host: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    version_id: Mapped[int | None]  # served as `active`; no foreign key: a purge must not wait for it
    canary_version_id: Mapped[int | None]
    shadow_version_id: Mapped[int | None]
