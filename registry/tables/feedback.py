"""The table of feedback on answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.orm import Base


class FeedbackRow(Base):
    """An image, what a version answered, and what is right; or an image that was kept to be labelled."""

    __tablename__ = "feedback"
    __table_args__ = (
        Index("ix_feedback_created", "created_at", "id"),
        Index("ix_feedback_state", "state", "created_at", "id"),
        Index("ix_feedback_owner", "owner", "state", "source"),
        Index("ix_feedback_label", "label", "created_at", "id"),
        Index("ix_feedback_picture", "picture_sha256"),
        Index("ix_feedback_image", "image_sha256"),
        Index("ix_feedback_expires", "expires_at"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    source: Mapped[str] = mapped_column(String(16))  # a `FeedbackSource`
    state: Mapped[str] = mapped_column(String(16))  # a `FeedbackState`
    image_sha256: Mapped[str] = mapped_column(String(64))  # the blob: the file as it was sent
    picture_sha256: Mapped[str] = mapped_column(String(64))  # what it shows: `check_picture`
    num_bytes: Mapped[int]  # of the file
    version_id: Mapped[int | None]  # that answered; no foreign key: a purge must not wait for it
    predicted: Mapped[str | None] = mapped_column(String(500))
    label: Mapped[str | None] = mapped_column(String(200))
    note: Mapped[str | None] = mapped_column(String(1000))
    margin: Mapped[float | None]  # of a kept image: score of the best label minus that of the second best
    origin: Mapped[dict[str, Any] | None]  # the stored image that it was copied from
    dataset_id: Mapped[str | None] = mapped_column(String(40))  # the data set that was made with it
    owner: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]  # when the service deletes it; null: never
