"""From a request to collect images to the manifest that a worker reads: which rows of which splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from app.datasets.gallery import GalleryDep
from app.datasets.service import DatasetIntakeDep, Submission, Submitted
from app.evaluations.predictions import Filters, find_rows
from app.http.dependencies import BlobsDep, DatabaseDep, built
from contract.collections import MAX_ROWS, CollectRequest, Manifest, ManifestSource, RowsOf
from contract.datasets import SPLITS, DatasetKind, Split
from registry.datasets import DatasetOptions, StoredImages
from registry.errors import RequestRefusedError

_Goal = tuple[Split | None, str | None]
"""Split and class that a request names for an image."""


class _Chosen:
    """The rows of a request, each once, and what the request says about them."""

    def __init__(self) -> None:
        self._goals: dict[tuple[str, Split], dict[int, _Goal]] = {}
        self._num_rows = 0

    def add(self, dataset_id: str, split: Split, rows: Sequence[int], goal: _Goal) -> None:
        """Add rows of a split.

        Raises:
            RequestRefusedError: There are too many, or one is there already with another split or class.
        """
        known = self._goals.setdefault((dataset_id, split), {})
        before = len(known)
        for row in rows:
            if known.setdefault(row, goal) != goal:
                raise RequestRefusedError(
                    "contradictory_rows",
                    f"Row {row} of split {split} of {dataset_id} is requested twice, with different splits or classes.",
                    "Name each image once, or with the same `as_split` and `as_label`.",
                )
        self._num_rows += len(known) - before
        if self._num_rows > MAX_ROWS:
            raise RequestRefusedError(
                "too_many_images", f"More than {MAX_ROWS:,} images are requested.", "Choose fewer images."
            )

    def sources(self) -> Iterator[ManifestSource]:
        """Yield the parts of the manifest, in the order of the request."""
        for (dataset_id, split), goals in self._goals.items():
            for as_split, as_label in dict.fromkeys(goals.values()):
                rows = tuple(sorted(row for row, goal in goals.items() if goal == (as_split, as_label)))
                yield ManifestSource(dataset=dataset_id, split=split, rows=rows, as_split=as_split, as_label=as_label)


@dataclass(frozen=True)
class Collector:
    """Creates data sets from rows of others."""

    database: DatabaseDep
    blobs: BlobsDep
    gallery: GalleryDep
    intake: DatasetIntakeDep

    def submit(self, request: CollectRequest, owner: str | None, idempotency_key: str | None) -> Submitted:
        """Return the data set that is collected, whose job copies the images.

        Raises:
            NotFoundError: A data set or an evaluation is unknown.
            RequestRefusedError: The images cannot be collected.
        """
        stored: dict[str, StoredImages] = {}
        chosen = _Chosen()
        for place, source in enumerate(request.sources):
            self._choose(source, ("body", "from", str(place)), request, stored, chosen)
        manifest = Manifest(
            sources=tuple(chosen.sources()), splits=request.splits, allow_test_images=request.allow_test_images
        )
        if not manifest.sources:
            raise RequestRefusedError("no_images", "No image passes the filters.", "Choose other images.")
        templates = request.templates
        if templates is None:
            templates = stored[manifest.sources[0].dataset].templates
        options = DatasetOptions(
            templates=() if request.kind is DatasetKind.POOL else templates, kind=request.kind, is_collected=True
        )
        asked = Submission(
            request.name, options, owner, request.webhook_url, idempotency_key, collected=manifest.report()
        )
        return self.intake.submit_manifest(manifest.to_bytes(), asked)

    def _choose(
        self,
        source: RowsOf,
        place: tuple[str, ...],
        request: CollectRequest,
        stored: dict[str, StoredImages],
        chosen: _Chosen,
    ) -> None:
        """Add the rows that one part of the request names."""
        goal = (source.as_split, source.as_label)
        for dataset_id, split, rows in self._rows(source, place, stored):
            if rows:
                _refuse_leaks(source, split, request)
                _refuse_unlabelled(source, stored[dataset_id], request)
                chosen.add(dataset_id, split, rows, goal)

    def _rows(
        self, source: RowsOf, place: tuple[str, ...], stored: dict[str, StoredImages]
    ) -> Iterator[tuple[str, Split, Sequence[int]]]:
        """Yield the rows that one part of the request names, by data set and split."""
        if source.evaluation is not None:
            filters = Filters(source.wrong, source.label, source.predicted, source.changed, place)
            row, judged = find_rows(self.database, self.blobs, source.evaluation, source.version, filters)
            self._find(row.dataset_id, stored)
            yield row.dataset_id, _split(row.split), judged
            return
        assert source.dataset is not None
        images = self._find(source.dataset, stored)
        for split in self.gallery.splits(images, source.split, *place):
            found = self.gallery.rows(images, split, source.label, *place)
            if source.rows is not None:
                found = _only(source.rows, found, images, split)
            yield images.id, split, found

    def _find(self, dataset_id: str, stored: dict[str, StoredImages]) -> StoredImages:
        if dataset_id not in stored:
            stored[dataset_id] = self.gallery.find(dataset_id)
        return stored[dataset_id]


CollectorDep = Annotated[Collector, built(Collector)]


def _split(name: str) -> Split:
    return next(split for split in SPLITS if split == name)


def _only(wanted: Sequence[int], found: Sequence[int], images: StoredImages, split: Split) -> Sequence[int]:
    """Return the wanted rows that pass the filter."""
    num_images = images.count(split)
    if max(wanted) >= num_images:
        raise RequestRefusedError(
            "row_not_found",
            f"Split {split} of {images.id} has no row {max(wanted)}: it has {num_images} images.",
            f"List them: GET /v1/datasets/{images.id}/images.",
        )
    passing = frozenset(found)
    return [row for row in wanted if row in passing]


def _refuse_leaks(source: RowsOf, split: Split, request: CollectRequest) -> None:
    """Refuse images of a test split that would be trained on, unless the request allows it."""
    is_trained_on = request.kind is DatasetKind.POOL or source.as_split in ("train", "validation")
    if split == "test" and is_trained_on and not request.allow_test_images:
        raise RequestRefusedError(
            "test_images",
            "Images of a test split would be trained on, so later scores on that test split would be too high.",
            "Choose another split, or send allow_test_images: true if you no longer evaluate on it.",
        )


def _refuse_unlabelled(source: RowsOf, images: StoredImages, request: CollectRequest) -> None:
    needs_label = request.kind is DatasetKind.LABELLED and source.as_label is None
    if needs_label and images.kind is DatasetKind.POOL:
        raise RequestRefusedError(
            "unlabelled_pool",
            f"The images of {images.id} have no labels, because it is a pool.",
            "Name their class with `as_label`, or collect a pool with kind: pool.",
        )
