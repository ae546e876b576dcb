"""Parquet files of images, as Hugging Face `datasets` writes them: a column of `{bytes, path}`, and one of labels.

A bare Parquet file or an archive of them. Labels are numbers, named by the features in the schema's metadata where it
has them, or text. The images are copied into one file on disk, so that they can be read in any order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from registry.archives import ArchiveLimits, refuse_bomb
from registry.errors import ArchiveRefusedError
from registry.intake.containers import Stretch, StretchContainer
from registry.intake.plan import Image, Plan, Upload, make_plan, read_label, reject
from registry.intake.shards import Shard, Stretches, find_shards
from registry.intake.tables import open_parquet, refuse_table

_IMAGE_COLUMNS, _LABEL_COLUMNS = ("image", "img"), ("label", "labels")
_ROWS_PER_BATCH = 8  # each may be as large as one file may be
_METADATA = "metadata.parquet"


@dataclass(frozen=True)
class _Columns:
    """The columns that matter, and the names of the labels if the schema tells them."""

    image: str
    label: str
    names: tuple[str, ...] | None


class ParquetShards:
    """Parquet files with images in them."""

    name = "parquet"

    def recognises(self, upload: Upload) -> bool:
        """Return whether there are Parquet files and no image files."""
        return not upload.images and any(
            parts[-1].lower().endswith(".parquet") and parts[-1] != _METADATA for _, parts in upload.files
        )

    def read(self, upload: Upload) -> Plan:
        """Return the images of all rows, having copied them out.

        Args:
            upload: The archive.

        Returns:
            The plan; an image is called by its file and row, as in `train.parquet#12`.

        Raises:
            ArchiveRefusedError: A file cannot be read, lacks a column, or names other classes than the rest.
        """
        shards = find_shards(upload.files, ".parquet")
        stretches, images = Stretches(upload), list[Image]()
        known = {shard.entry.name for shard in shards}
        rejected = [reject(entry.name, "is no Parquet file") for entry, _ in upload.files if entry.name not in known]
        names: set[tuple[str, ...] | None] = set()
        path = upload.scratch / "images"
        with path.open("wb") as target:
            for shard in shards:
                source = stretches.take_out(upload, shard.entry)
                with closing(open_parquet(source, shard.entry.name)) as file:
                    columns = _find_columns(file, shard.entry.name)
                    names.add(columns.names)
                    _check_size(file, columns, source.stat().st_size, upload.limits)
                    for name, data, label in _read_rows(file, columns, shard, rejected):
                        stretches.put(name, Stretch(path, _append(target, data), len(data)))
                        images.append(Image(name, shard.split, label))
                source.unlink()
        if len(names) > 1:
            raise ArchiveRefusedError("bad_table", "Its Parquet files name different classes.", "Write them together.")
        container = StretchContainer(stretches, upload.limits)
        return make_plan(self.name, container, images, rejected, upload.limits, declared=names.pop())


def _append(target: BinaryIO, data: bytes) -> int:
    offset = target.tell()
    target.write(data)
    return offset


def _find_columns(file: pq.ParquetFile, name: str) -> _Columns:
    schema = file.schema_arrow
    features = _features(schema)
    pictures = [field.name for field in schema if _holds_pictures(field.type)]
    classes = [column for column, each in features.items() if each.get("_type") == "ClassLabel"]
    image = _choose(_IMAGE_COLUMNS, pictures)
    label = _choose(_LABEL_COLUMNS, [field.name for field in schema], classes)
    if image is None or label is None:
        missing = "no column of images ({bytes, path})" if image is None else "no column `label`"
        raise ArchiveRefusedError(
            "bad_table", f"{name!r} has {missing}; it has {', '.join(schema.names[:20])}.", "Name them image and label."
        )
    names = features.get(label, {}).get("names")
    known = isinstance(names, list) and all(isinstance(each, str) for each in names)
    if known and len(set(names)) < len(names):
        raise ArchiveRefusedError("duplicate_classname", f"{name!r} names a class twice.", "Name each class once.")
    return _Columns(image, label, tuple(names) if known else None)


def _choose(preferred: Sequence[str], present: Sequence[str], otherwise: Sequence[str] | None = None) -> str | None:
    """Return the preferred column that is there, or the only candidate there is."""
    named = next((column for column in preferred if column in present), None)
    candidates = present if otherwise is None else otherwise
    return named if named is not None else (candidates[0] if len(candidates) == 1 else None)


def _holds_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Return the Hugging Face features by column; none if the metadata tells none."""
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {column: each for column, each in found.items() if isinstance(each, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _check_size(file: pq.ParquetFile, columns: _Columns, packed: int, limits: ArchiveLimits) -> None:
    """Refuse what declares to unpack to too much; what lies is caught by the budgets while it is read."""
    metadata = file.metadata
    total = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if metadata.num_rows > limits.max_members or total > limits.max_total_bytes:
        raise refuse_bomb(f"It holds {metadata.num_rows} rows and {total} bytes.")
    if total > limits.ratio_floor_bytes and total > limits.max_ratio * packed:
        raise refuse_bomb(f"It unpacks to {total} bytes from {packed}; images do not compress like that.")


def _read_rows(
    file: pq.ParquetFile, columns: _Columns, shard: Shard, rejected: list[dict[str, str]]
) -> Iterator[tuple[str, bytes, str]]:
    """Yield `(name, bytes, label)` of the rows that have both."""
    number = 0
    try:
        for batch in file.iter_batches(batch_size=_ROWS_PER_BATCH, columns=[columns.image, columns.label]):
            for row in batch.to_pylist():
                name = f"{shard.entry.name}#{number}"
                number += 1
                data = row[columns.image]
                data = data.get("bytes") if isinstance(data, dict) else data
                label, reason = _label_of(row[columns.label], columns.names)
                if data and reason is None:
                    yield name, data, label
                else:
                    rejected.append(reject(name, reason if data and reason else "has no image bytes"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise refuse_table(shard.entry.name, str(error)) from error


def _label_of(value: Any, names: tuple[str, ...] | None) -> tuple[str, str | None]:
    if names is None or not isinstance(value, int):
        label, reason = read_label(value)
        known = names is None or label in names
        return label, reason if reason or known else f"has the unknown label {label!r}"
    return (names[value], None) if 0 <= value < len(names) else ("", f"has the label {value} of {len(names)}")
