"""The images of a data set, page by page and one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from app.datasets.gallery_schemas import DatasetImage, DatasetImageList
from app.datasets.schemas import Duplicate
from app.datasets.stored_shards import StoredShardsDep
from app.http.dependencies import DatabaseDep, built
from app.http.invalid import invalid
from app.http.links import link_to
from app.pictures.thumbnails import Picture
from contract.datasets import SPLITS, DatasetKind, Split
from contract.names import MAX_NAME, shorten
from registry.datasets import Datasets, StoredImages
from registry.errors import NotFoundError
from registry.paging import decode_cursor, encode_cursor

_CURSOR = "images"


@dataclass(frozen=True)
class Filters:
    """Which images a page shows; None: all."""

    split: Split | None = None
    label: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class Gallery:
    """Shows the images of ready data sets."""

    database: DatabaseDep
    shards: StoredShardsDep

    def find(self, dataset_id: str) -> StoredImages:
        """Return where the images of a data set are.

        Raises:
            NotFoundError: There is no such data set.
            RequestRefusedError: It is not ready.
        """
        with self.database.read() as session:
            return Datasets(session).stored_images(dataset_id)

    def page(self, stored: StoredImages, filters: Filters, limit: int, cursor: str | None) -> DatasetImageList:
        """Return a page of images; reads the index of no more splits than it shows.

        Args:
            stored: The data set.
            filters: Which images.
            limit: Maximum number of images.
            cursor: The previous page's `next_cursor`; None: the first page.
        """
        wanted = _Wanted(None if filters.label is None else _place(stored, filters.label, "query"), filters.file)
        splits = self.splits(stored, filters.split, "query")
        start, row = (0, -1) if cursor is None else decode_cursor(cursor, _CURSOR, [int, int])
        items: list[DatasetImage] = []
        for position in range(max(0, start), len(SPLITS)):
            split = SPLITS[position]
            after = max(-1, row) if position == start else -1
            if split in splits:
                items += self._images(stored, split, wanted, after, limit + 1 - len(items))
            if len(items) > limit:
                break
        last = items[limit - 1] if len(items) > limit else None
        return DatasetImageList(
            total=sum(self._count(stored, split, filters, wanted) for split in splits),
            items=items[:limit],
            next_cursor=None if last is None else encode_cursor(_CURSOR, [SPLITS.index(last.split), last.row]),
        )

    def rows(self, stored: StoredImages, split: Split, classname: str | None, *place: str) -> Sequence[int]:
        """Return the rows of a split, or those of one of its classes, ascending; `place` is that in the request."""
        num_images = stored.count(split)
        if classname is None:
            return range(num_images)
        label = _place(stored, classname, *place)
        index = self.shards.index(stored.shards[split]["sha256"])
        rows: list[int] = _matching(index, _Wanted(label), -1, num_images).to_pylist()
        return rows

    def repeated(self, stored: StoredImages, examples: Sequence[Duplicate]) -> Sequence[Sequence[DatasetImage]]:
        """Return two images of each example of a picture that is in several splits; those not found are left out."""
        return [
            [
                image
                for each in example.files[:2]
                if each.split in stored.shards
                for image in self.page(stored, Filters(cast("Split", each.split), file=each.file), 1, None).items
            ]
            for example in examples
        ]

    def splits(self, stored: StoredImages, split: Split | None, *place: str) -> Sequence[Split]:
        """Return the splits of a data set, or only the given one, which it must have; `place` as for `rows`."""
        present = [each for each in SPLITS if each in stored.shards]
        if split is None:
            return present
        if split not in present:
            raise invalid(f"is not a split of this data set: it has {', '.join(present)}", *place, "split")
        return [split]

    def picture(self, dataset_id: str, split: Split, row: int) -> Picture:
        """Return an image.

        Raises:
            NotFoundError: There is no such image.
        """
        stored = self.find(dataset_id)
        shard = stored.shards.get(split)
        if shard is None or row >= shard["num_images"]:
            raise NotFoundError("image", f"{split}/{row}", f"List them: GET /v1/datasets/{dataset_id}/images.")
        sha256 = shard["sha256"]
        return Picture(f"{sha256} {row}", lambda: self.shards.image(sha256, row), stored.decoder)

    def _count(self, stored: StoredImages, split: Split, filters: Filters, wanted: _Wanted) -> int:
        if filters.file is None:
            return stored.count(split, filters.label)
        index = self.shards.index(stored.shards[split]["sha256"])
        return len(_matching(index, wanted, -1, len(index)))

    def _images(
        self, stored: StoredImages, split: Split, wanted: _Wanted, after: int, limit: int
    ) -> Iterator[DatasetImage]:
        """Yield the next images of a split after a row."""
        index = self.shards.index(stored.shards[split]["sha256"])
        rows = _matching(index, wanted, after, limit)
        for row, image in zip(rows.to_pylist(), index.take(rows).to_pylist(), strict=True):
            yield DatasetImage(
                split=split,
                row=row,
                file=shorten(image["name"] or "", MAX_NAME),
                label=None if stored.kind is DatasetKind.POOL else stored.classnames[image["label"]],
                thumbnail=link_to(f"/v1/datasets/{stored.id}/images/{split}/{row}"),
            )


GalleryDep = Annotated[Gallery, built(Gallery)]


class _Wanted(NamedTuple):
    """Label and name of rows; None: any."""

    label: int | None = None
    name: str | None = None


def _matching(index: pa.Table, wanted: _Wanted, after: int, limit: int) -> pa.Array:
    """Return at most `limit` rows above `after`, ascending."""
    given = [(column, value) for column, value in wanted._asdict().items() if value is not None]
    if not given:
        return pa.array(range(after + 1, min(after + 1 + limit, len(index))), pa.int64())
    matches = [pc.equal(index[column].slice(after + 1), value) for column, value in given]
    places = pc.indices_nonzero(reduce(pc.and_, matches))
    return pc.add(places.slice(0, limit).cast(pa.int64()), after + 1)


def _place(stored: StoredImages, label: str, *place: str) -> int:
    if stored.kind is DatasetKind.POOL:
        raise invalid("cannot be used, because the images of a pool have no labels", *place, "label")
    try:
        return stored.classnames.index(label)
    except ValueError:
        raise invalid("is not a class of this data set", *place, "label") from None
