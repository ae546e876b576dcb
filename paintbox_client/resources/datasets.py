"""Data sets and how they were read."""

from __future__ import annotations

from paintbox_client.records import Record
from paintbox_client.resources.jobs import JobBrief, JobError


class Split(Record):
    """The contents of a split."""

    num_images: int
    per_class: dict[str, int]
    taken_from: str | None


class SplitBrief(Record):
    """The contents of a split, without its classes."""

    num_images: int


class RejectedFile(Record):
    """A file of the archive that was left out; beyond the first 100, one entry for each kind of reason."""

    file: str
    reason: str
    count: int


class DuplicateFile(Record):
    """One of the places where a picture is."""

    split: str
    file: str


class Duplicate(Record):
    """A picture that is in more than one split."""

    num_files: int
    files: list[DuplicateFile]


class Duplicates(Record):
    """Pictures that occur more than once, compared by decoded pixels. Nothing was removed."""

    across_splits: int
    by_splits: dict[str, int]
    within_splits: int
    with_different_labels: int
    examples: list[Duplicate]


class Example(Record):
    """An image with its detected label and split."""

    file: str
    label: str
    split: str


class ReadingWarning(Record):
    """A warning about an upload that its owner should check."""

    code: str
    detail: str


class Reading(Record):
    """How an upload was read."""

    summary: str
    root: str
    wrappers: int
    class_level: int | None
    split_of: dict[str, str]
    tables: list[str]
    named_splits: list[str]
    examples: list[Example]
    warnings: list[ReadingWarning]


class CollectedSource(Record):
    """Images that were collected from one split of a data set."""

    dataset_id: str
    split: str
    num_images: int
    as_split: str | None
    as_label: str | None


class CollectionReport(Record):
    """Where the images of a collected data set come from."""

    sources: list[CollectedSource]
    splits: str
    allow_test_images: bool
    num_left_out: int | None
    num_test_images_in_training: int | None


class DatasetBrief(Record):
    """A data set in a list, without class names and file names; see `Client.dataset`."""

    id: str
    name: str
    kind: str
    state: str
    num_classes: int
    splits: dict[str, SplitBrief]
    layout: str | None
    derived_from: str | None
    content_sha256: str | None
    job_id: str
    job: JobBrief
    error: JobError | None
    owner: str | None
    created_at: str


class Dataset(DatasetBrief):
    """A set of images: `ingesting`, then `ready` and immutable, or `failed`."""

    splits: dict[str, Split]  # type: ignore[assignment]
    classnames: list[str]
    templates: list[str]
    rejected: list[RejectedFile]
    decoder: int
    num_rejected: int
    duplicates: Duplicates | None
    reading: Reading | None
    collected: CollectionReport | None


class DatasetImage(Record):
    """An image of a data set."""

    split: str
    row: int
    file: str
    label: str | None
    thumbnail: str
