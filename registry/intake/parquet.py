"""Parquet files of images, as Hugging Face `datasets` writes them: a column of `{bytes, path}`, and one of labels.

A bare Parquet file or an archive of them. Labels are numbers, named by the features in the schema's metadata where it
has them, or text. The images are copied into one file on disk, so that they can be read in any order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from registry.archives import ArchiveLimits, quote_name
from registry.errors import ArchiveRefusedError
from registry.intake.containers import Stretch, StretchContainer
from registry.intake.parquet_pages import ParquetTable, size_of
from registry.intake.plan import Image, Plan, Upload, check_classes, make_plan, read_label
from registry.intake.rejects import Rejects
from registry.intake.shards import Shard, Stretches, find_shards
from registry.names import shorten

_IMAGE_COLUMNS, _LABEL_COLUMNS = ("image", "img"), ("label", "labels")
_MAX_LABEL_BYTES = 4096
_NAMED_IN_ERROR = 20
_METADATA = "metadata.parquet"


@dataclass(frozen=True)
class _Columns:
    """The columns that matter, the first as the path of its bytes, and the names of the labels if the schema tells."""

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
        stretches, images, rejects = Stretches(upload), list[Image](), Rejects()
        known = {shard.entry.name for shard in shards}
        rejects.add_all((entry.name for entry, _ in upload.files if entry.name not in known), "is no Parquet file")
        names: set[tuple[str, ...] | None] = set()
        path = upload.scratch / "images"
        with path.open("wb") as target:
            for shard in shards:
                source = stretches.take_out(upload, shard.entry)
                with closing(ParquetTable(source, shard.entry.name, upload.limits)) as table:
                    columns = _find_columns(table, shard.entry.name, upload.limits)
                    names.add(columns.names)
                    for name, data, label in _read_rows(table, columns, shard, rejects):
                        stretches.put(name, Stretch(path, target.tell(), data.size))
                        target.write(data)
                        images.append(Image(name, shard.split, label))
                source.unlink()
        if len(names) > 1:
            raise ArchiveRefusedError("bad_table", "Its Parquet files name different classes.", "Write them together.")
        container = StretchContainer(stretches, upload.limits)
        return make_plan(self.name, container, images, rejects, upload.limits, declared=names.pop())


def _find_columns(table: ParquetTable, name: str, limits: ArchiveLimits) -> _Columns:
    schema = table.schema
    features = _features(schema)
    pictures = [field.name for field in schema if _path_of_pictures(field) is not None]
    classes = [column for column, each in features.items() if each.get("_type") == "ClassLabel"]
    image = _choose(_IMAGE_COLUMNS, pictures)
    label = _choose(_LABEL_COLUMNS, table.plain_columns, [each for each in classes if each in table.plain_columns])
    if image is None or label is None:
        missing = "no column of images ({bytes, path})" if image is None else "no column `label` of numbers or text"
        present = ", ".join(quote_name(shorten(each, 40)) for each in schema.names[:_NAMED_IN_ERROR])
        raise ArchiveRefusedError(
            "bad_table", f"{quote_name(name)} has {missing}; it has {present}.", "Name them image and label."
        )
    names = features.get(label, {}).get("names")
    known = isinstance(names, list) and all(isinstance(each, str) for each in names)
    if known:
        check_classes(names, limits)
    if known and len(set(names)) < len(names):
        raise ArchiveRefusedError(
            "duplicate_classname", f"{quote_name(name)} names a class twice.", "Name each class once."
        )
    path = _path_of_pictures(schema.field(image))
    assert path is not None
    return _Columns(path, label, tuple(names) if known else None)


def _choose(preferred: Sequence[str], present: Sequence[str], otherwise: Sequence[str] | None = None) -> str | None:
    """Return the preferred column that is there, or the only candidate there is."""
    named = next((column for column in preferred if column in present), None)
    candidates = present if otherwise is None else otherwise
    return named if named is not None else (candidates[0] if len(candidates) == 1 else None)


def _path_of_pictures(field: pa.Field) -> str | None:
    """Return the path of the bytes in a column of pictures; None if it is none."""
    if not pa.types.is_struct(field.type):
        return field.name if _is_binary(field.type) else None
    inner = next((each for each in field.type if each.name == "bytes" and _is_binary(each.type)), None)
    return None if inner is None else f"{field.name}.bytes"


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Return the Hugging Face features by column; none if the metadata tells none."""
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {column: each for column, each in found.items() if isinstance(each, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _read_rows(
    table: ParquetTable, columns: _Columns, shard: Shard, rejects: Rejects
) -> Iterator[tuple[str, pa.Buffer, str]]:
    """Yield `(name, bytes, label)` of the rows that have both."""
    indices = frozenset(columns.names or ())
    for number, (image, value) in enumerate(table.read_rows([columns.image, columns.label])):
        name = f"{shard.entry.name}#{number}"
        if not size_of(image):
            rejects.add(name, "has no image bytes")
            continue
        label, reason = _label_of(value, columns.names, indices)
        if reason is None:
            yield name, image.as_buffer(), label
        else:
            rejects.add(name, reason)


def _label_of(value: pa.Scalar, names: tuple[str, ...] | None, known: frozenset[str]) -> tuple[str, str | None]:
    if size_of(value) > _MAX_LABEL_BYTES:
        return "", "has a label that is too long"
    plain = value.as_py()
    if names is None or not isinstance(plain, int) or isinstance(plain, bool):
        label, reason = read_label(plain)
        is_known = names is None or label in known
        return label, reason if reason or is_known else f"has the unknown label {label!r}"
    return (names[plain], None) if 0 <= plain < len(names) else ("", f"has the label {plain} of {len(names)}")
