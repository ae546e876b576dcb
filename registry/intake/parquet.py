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

from contract.names import shorten
from registry.archives import quote_name
from registry.errors import ArchiveRefusedError
from registry.intake.annotations import several_labels
from registry.intake.containers import Stretch, StretchContainer
from registry.intake.parquet_pages import ParquetTable, size_of
from registry.intake.plan import Image, Plan, Upload, check_classes, make_plan, read_label
from registry.intake.rejects import Rejects
from registry.intake.shards import Shard, Stretches, find_shards

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "class", "category", "target", "class_name", "classname", "label_name")
_MAX_LABEL_BYTES = 4096
_NAMED_IN_ERROR = 20
_METADATA = "metadata.parquet"


@dataclass(frozen=True)
class _Columns:
    """The relevant columns, the first as the path of its bytes, and the label names if the schema has them."""

    image: str
    label: str
    names: tuple[str, ...] | None


class ParquetShards:
    """Parquet files with images in them."""

    name = "parquet"

    def recognises(self, upload: Upload) -> bool:
        """Return whether there are Parquet files."""
        return any(parts[-1].lower().endswith(".parquet") and parts[-1] != _METADATA for _, parts in upload.files)

    def read(self, upload: Upload) -> Plan | None:
        """Return the images of all rows, copied into files.

        Returns:
            The plan; images are named by file and row, as in `train.parquet#12`. None if the upload has image files
            and its Parquet files contain none.

        Raises:
            ArchiveRefusedError: A file cannot be read, lacks a column, or has different classes from the others.
        """
        if upload.images and not _hold_pictures(upload):
            return None
        shards = find_shards(upload, (".parquet",))
        stretches, images, rejects = Stretches(upload), list[Image](), Rejects()
        known = {shard.entry.name for shard in shards}
        rejects.add_all((entry.name for entry, _ in upload.files if entry.name not in known), "is not a Parquet file")
        columns = None
        names: set[tuple[str, ...] | None] = set()
        path = upload.scratch / "images"
        with path.open("wb") as target:
            for shard in shards:
                source = stretches.take_out(upload, shard.entry)
                with closing(ParquetTable(source, shard.entry.name, upload.limits)) as table:
                    columns = _find_columns(table, shard.entry.name, upload)
                    names.add(columns.names)
                    for name, data, label in _read_rows(table, columns, shard, rejects):
                        stretches.put(name, Stretch(path, target.tell(), data.size))
                        target.write(data)
                        images.append(Image(name, shard.split, label))
                source.unlink()
        if len(names) > 1:
            raise ArchiveRefusedError(
                "bad_table", "The Parquet files have different classes.", "Write all files with the same classes."
            )
        upload.notes.labels_from = f"column {columns.label!r}" if columns is not None else ""
        container = StretchContainer(stretches, upload.limits)
        return make_plan(self.name, upload, container, images, rejects, declared=names.pop() if names else None)


def _hold_pictures(upload: Upload) -> bool:
    """Return whether the first of the Parquet files has a column of images."""
    entry = next(entry for entry, parts in upload.files if parts[-1].lower().endswith(".parquet"))
    path = upload.take_out(entry.name, upload.limits.max_shard_bytes)
    try:
        with closing(ParquetTable(path, entry.name, upload.limits)) as table:
            return any(_path_of_pictures(field) is not None for field in table.schema)
    finally:
        path.unlink()


def _find_columns(table: ParquetTable, name: str, upload: Upload) -> _Columns:
    schema, choices, limits = table.schema, upload.choices, upload.limits
    features = _features(schema)
    pictures = [field.name for field in schema if _path_of_pictures(field) is not None]
    classes = [column for column, each in features.items() if each.get("_type") == "ClassLabel"]
    image = _choose((choices.path_column,) if choices.path_column else _IMAGE_COLUMNS, pictures)
    candidates = [each for each in classes if each in table.plain_columns]
    label = _choose((choices.label_column,), table.plain_columns, ()) if choices.label_column else None
    label = label if choices.label_column else _choose(_LABEL_COLUMNS, table.plain_columns, candidates)
    if image is None or label is None:
        raise _lacks_columns(name, schema, image, candidates)
    names = features.get(label, {}).get("names")
    known = isinstance(names, list) and all(isinstance(each, str) for each in names)
    if known:
        check_classes(names, limits)
    if known and len(set(names)) < len(names):
        raise ArchiveRefusedError(
            "duplicate_classname", f"{quote_name(name)} contains a class name twice.", "Use each class name once."
        )
    path = _path_of_pictures(schema.field(image))
    assert path is not None
    return _Columns(path, label, tuple(names) if known else None)


def _lacks_columns(name: str, schema: pa.Schema, image: str | None, known: Sequence[str]) -> ArchiveRefusedError:
    """Return the error of a Parquet file whose columns contain no images or no classes."""
    lists = [field.name for field in schema if pa.types.is_list(field.type) or pa.types.is_large_list(field.type)]
    if image is not None and (several := next((each for each in lists if each.lower() in _LABEL_COLUMNS), None)):
        return several_labels(f"Column {several!r} of {quote_name(name)} contains lists")
    present = ", ".join(
        f"{quote_name(shorten(field.name, 40))} ({shorten(str(field.type), 40)})"
        for field in list(schema)[:_NAMED_IN_ERROR]
    )
    if image is None:
        missing, advice = "no column of images ({bytes, path})", "Write it with `datasets`, with a column `image`."
    elif len(known) > 1:
        missing, advice = (
            f"{len(known)} columns of classes",
            f"Choose one, such as label_column={known[0]}.",
        )
    else:
        missing, advice = "no column `label` of numbers or text", "Specify the class column with `label_column`."
    return ArchiveRefusedError("bad_table", f"{quote_name(name)} has {missing}; it has {present}.", advice)


def _choose(preferred: Sequence[str], present: Sequence[str], otherwise: Sequence[str] | None = None) -> str | None:
    """Return the preferred column that is there, in whatever case, or the only candidate there is."""
    lower = {column.lower(): column for column in reversed(present)}
    named = next((column for column in preferred if column in present), None)
    named = named or next((lower[column.lower()] for column in preferred if column.lower() in lower), None)
    candidates = present if otherwise is None else otherwise
    return named if named is not None else (candidates[0] if len(candidates) == 1 else None)


def _path_of_pictures(field: pa.Field) -> str | None:
    """Return the path of the bytes in a column of images; None if it is none."""
    if not pa.types.is_struct(field.type):
        return field.name if _is_binary(field.type) else None
    inner = next((each for each in field.type if each.name == "bytes" and _is_binary(each.type)), None)
    return None if inner is None else f"{field.name}.bytes"


def _is_binary(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_binary(kind.value_type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Return the Hugging Face features by column; none if the metadata has none."""
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
