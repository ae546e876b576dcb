"""Data sets at rest: one Parquet file a split, with the columns that `datasets.load_dataset("parquet")` reads.

`image` is a struct of `bytes` (the file as it was uploaded) and `path`, `label` an index into the class names, which
stand in the schema's metadata as the Hugging Face features describe them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

UNLABELLED = "unlabelled"
"""The class of the images of a pool, of which no task is made."""
_ROWS_PER_GROUP = 256
_ROWS_AT_ONCE, _SMALL_GROUP_BYTES = 16, 64 << 20
"""Rows that are decoded together in a group of at most so many bytes; in a larger one, each alone."""
_Row = tuple[bytes, str, int]


def write_shard(path: Path, rows: Iterable[_Row], classnames: tuple[str, ...]) -> int:
    """Write a Parquet file of images and return how many it holds; the same rows give the same bytes.

    Args:
        rows: `(image file's bytes, name, label)`, with labels in [0, C).
    """
    schema = _schema(classnames)
    num_images = 0
    with pq.ParquetWriter(path, schema, compression="none") as writer:
        for group in _groups(rows):
            images = [{"bytes": data, "path": name} for data, name, _ in group]
            labels = [label for _, _, label in group]
            writer.write_table(pa.table({"image": images, "label": labels}, schema=schema))
            num_images += len(group)
    return num_images


def read_shard(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield `(image file's bytes, label)` in the order they were written."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS_PER_GROUP, columns=["image", "label"]):
            for row in batch.to_pylist():
                yield row["image"]["bytes"], row["label"]


def read_names(path: Path) -> list[str]:
    """Return the names of a shard's images in the order they were written."""
    with pq.ParquetFile(path) as file:
        return [row["image"]["path"] for row in file.read(columns=["image.path"]).to_pylist()]


def read_index(path: Path) -> pa.Table:
    """Return the names and labels of a shard's images, in the columns `name` and `label`; images are not read."""
    with pq.ParquetFile(path) as file:
        table = file.read(columns=["image.path", "label"])
    return pa.table({"name": pc.struct_field(table["image"], "path"), "label": table["label"]})


def read_image(path: Path, row: int) -> bytes:
    """Return the image file's bytes in a row, from 0; reads at most the row's group.

    Raises:
        IndexError: The shard has no such row.
    """
    ((image, _, _),) = read_rows(path, [row])
    return image


def read_rows(path: Path, rows: Sequence[int]) -> Iterator[_Row]:
    """Yield `(image file's bytes, name, label)` of some rows; reads the groups that hold them, a few images at a time.

    Args:
        rows: Ascending, each at least 0.

    Raises:
        IndexError: The shard has no such row.
    """
    wanted, start = iter(rows), 0
    row = next(wanted, None)
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            metadata = file.metadata.row_group(group)
            end = start + metadata.num_rows
            if row is not None and row < end:
                at_once = _ROWS_AT_ONCE if metadata.total_byte_size <= _SMALL_GROUP_BYTES else 1
                for batch in file.iter_batches(batch_size=at_once, row_groups=[group], columns=["image", "label"]):
                    while row is not None and row < start + len(batch):
                        (each,) = batch.slice(row - start, 1).to_pylist()
                        yield each["image"]["bytes"], each["image"]["path"], each["label"]
                        row = next(wanted, None)
                    start += len(batch)
                    if row is None or row >= end:
                        break
            start = end
    if row is not None:
        raise IndexError(row)


def _groups(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    iterator = iter(rows)
    while group := list(islice(iterator, _ROWS_PER_GROUP)):
        yield group


def _schema(classnames: tuple[str, ...]) -> pa.Schema:
    features = {"image": {"_type": "Image"}, "label": {"names": list(classnames), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}}, sort_keys=True)}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.schema([("image", image), ("label", pa.int64())], metadata=metadata)
