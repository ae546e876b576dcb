"""Feedback on answers."""

from __future__ import annotations

from paintbox_client.records import Record
from paintbox_client.resources.datasets import Dataset
from paintbox_client.resources.patches import PatchOptions


class FeedbackOrigin(Record):
    """The stored image that feedback is about."""

    dataset: str
    split: str
    row: int


class FeedbackResource(Record):
    """An image that was answered wrongly, or that was kept to be labelled."""

    id: str
    source: str
    state: str
    version_id: int | None
    predicted: str | None
    label: str | None
    note: str | None
    margin: float | None
    origin: FeedbackOrigin | None
    dataset_id: str | None
    thumbnail: str
    num_bytes: int
    owner: str | None
    created_at: str
    updated_at: str
    expires_at: str | None


class FeedbackErased(Record):
    """Result of a deletion. The image files are gone when the response arrives."""

    deleted: int
    files_deleted: int
    datasets: list[str]
    has_more: bool


class CorrectionsDataset(Record):
    """A data set that is being made from feedback, and the patch to ask for when it is ready."""

    dataset: Dataset
    num_images: dict[str, int]
    patch: PatchOptions
