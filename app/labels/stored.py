"""A cache of the labels that requests name by id. Stored labels never change, so only their deletion matters."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from app.http.dependencies import provided
from app.labels.checks import check_labels
from contract.datasets import DatasetKind, DatasetState
from registry.database import Database
from registry.datasets import Datasets
from registry.errors import NotFoundError, RequestRefusedError
from registry.label_sets import LabelSets

RECHECK_SECONDS = 10.0
"""How long this process may use a label set that another one has deleted."""


@dataclass(frozen=True)
class Labels:
    """What a head is built from: distinct labels, and prompts; no prompts means the base model's own."""

    classnames: tuple[str, ...]
    templates: tuple[str, ...]


class LabelSource(StrEnum):
    """What names stored labels."""

    LABEL_SET = "label_set"
    DATASET = "dataset"


_Key = tuple[LabelSource, str]


class StoredLabels:
    """Labels of label sets and data sets in an LRU cache.

    The database is queried at the first use and then once every `RECHECK_SECONDS`, by one request while all others
    continue.

    Args:
        database: Where they are stored.
        max_cached: Size of the cache.
        clock: In seconds.
    """

    def __init__(self, database: Database, max_cached: int = 64, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._max_cached = max_cached
        self._clock = clock
        self._cached: OrderedDict[_Key, tuple[Labels, float]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of cached entries."""
        return len(self._cached)

    async def get(self, source: LabelSource, identifier: str) -> Labels:
        """Return the labels of a label set or a data set, without leaving the event loop if they are cached.

        Raises:
            NotFoundError: It does not exist.
            RequestRefusedError: The data set is not ready.
            LabelsRefusedError: A label occurs twice.
        """
        key = (source, identifier)
        with self._lock:
            labels, due = self._cached.get(key, (None, 0.0))
            if labels is not None:
                self._cached.move_to_end(key)
                if self._clock() < due:
                    return labels
                self._cached[key] = labels, self._clock() + RECHECK_SECONDS  # only this request queries the database
        try:
            return await run_in_threadpool(self._load, key)
        except SQLAlchemyError:  # the database is unavailable: assume that the labels still exist
            if labels is None:
                raise
            return labels

    def evict(self, identifier: str) -> None:
        """Evict a label set or data set that was deleted."""
        for source in LabelSource:
            self._drop((source, identifier))

    def _drop(self, key: _Key) -> None:
        with self._lock:
            self._cached.pop(key, None)

    def _load(self, key: _Key) -> Labels:
        try:
            labels = self._read(*key)
        except NotFoundError:
            self._drop(key)
            raise
        check_labels(labels.classnames)
        with self._lock:
            self._cached[key] = labels, self._clock() + RECHECK_SECONDS
            self._cached.move_to_end(key)
            while len(self._cached) > self._max_cached:
                self._cached.popitem(last=False)
        return labels

    def _read(self, source: LabelSource, identifier: str) -> Labels:
        with self._database.read() as session:
            if source is LabelSource.LABEL_SET:
                stored = LabelSets(session).get(identifier)
                return Labels(tuple(stored.labels), tuple(stored.templates))
            row = Datasets(session).get(identifier)
        if row.state != DatasetState.READY:
            advice = f"Wait until job {row.job_id} has succeeded."
            raise RequestRefusedError("dataset_not_ready", f"Data set {identifier} is {row.state}.", advice)
        if row.kind == DatasetKind.POOL:
            raise RequestRefusedError(
                "unlabelled_pool",
                f"Data set {identifier} is a pool of unlabelled images and has no classes.",
                "Use a labelled data set, or send labels.",
            )
        return Labels(tuple(row.classnames or ()), tuple(row.templates or ()))


StoredLabelsDep = Annotated[StoredLabels, provided(StoredLabels)]
