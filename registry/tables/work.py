"""Patches, evaluations and measurements."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.orm import Base


class PatchRow(Base):
    """A request to patch, the job that does it, and its report once there is one."""

    __tablename__ = "patches"
    __table_args__ = (
        Index("ix_patches_created", "created_at", "id"),
        Index("ix_patches_owner", "owner", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    request: Mapped[dict[str, Any]]
    base_fingerprint: Mapped[str] = mapped_column(ForeignKey("base_models.fingerprint"))
    job_id: Mapped[str] = mapped_column(String(40))
    version_id: Mapped[int | None]
    report: Mapped[dict[str, Any] | None]
    summary: Mapped[dict[str, Any] | None]  # a `PatchSummary`, once there is a report
    instant_patch_id: Mapped[str | None] = mapped_column(String(40))  # of method `auto`: the one that is done first
    owner: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]


class EvaluationRow(Base):
    """A request to evaluate versions on a data set, the job that does it, and its report once there is one."""

    __tablename__ = "evaluations"
    __table_args__ = (
        Index("ix_evaluations_created", "created_at", "id"),
        Index("ix_evaluations_dataset", "dataset_id"),
        Index("ix_evaluations_owner", "owner", "created_at", "id"),
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
