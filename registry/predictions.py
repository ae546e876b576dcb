"""Predictions at rest: one Parquet file per measurement, one row per image, in the order of the split's images.

Columns: `image` (name), `label` (index of its class, null if it has none), `predicted` (index of the best label),
`probability` of the best label, and `margin`, how far its probability is above that of the second best. The labels
themselves are in the schema's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_LABELS = b"labels"
_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("label", pa.int32()),
        ("predicted", pa.int32()),
        ("probability", pa.float32()),
        ("margin", pa.float32()),
    ]
)


@dataclass(frozen=True)
class Predictions:
    """The answers of some weights to the images of a split.

    Attributes:
        labels: What the columns `label` and `predicted` index.
        table: One row per image, with the columns above.
    """

    labels: tuple[str, ...]
    table: pa.Table


def write_predictions(path: Path, labels: Sequence[str], columns: dict[str, Sequence[object] | pa.Array]) -> int:
    """Write the columns of a file and return its size in bytes; the same columns give the same bytes."""
    schema = _SCHEMA.with_metadata({_LABELS: json.dumps(list(labels)).encode()})
    pq.write_table(pa.table(columns, schema=schema), path, compression="zstd")
    return path.stat().st_size


def read_predictions(path: Path) -> Predictions:
    """Return the predictions in a file that `write_predictions` wrote."""
    table = pq.read_table(path, memory_map=True)
    return Predictions(tuple(json.loads(table.schema.metadata[_LABELS])), table)
