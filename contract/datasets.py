"""Data sets: their states and kinds."""

from enum import StrEnum
from typing import Literal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class DatasetState(StrEnum):
    """A data set is `ingesting` until its job ends, then `ready` for good, or `failed`."""

    INGESTING = "ingesting"
    READY = "ready"
    FAILED = "failed"


class DatasetKind(StrEnum):
    """Purpose of a data set: `labelled` images form a task, those of a `pool` are anchors."""

    LABELLED = "labelled"
    POOL = "pool"
