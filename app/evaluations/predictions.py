"""The predictions of an evaluation, image by image: pages with filters, and the whole file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from app.evaluations.schemas import ImagePrediction, PredictionList
from app.http.invalid import invalid
from contract.evaluations import EvaluatedVersion, EvaluationReport
from registry.blobs import BlobStore
from registry.database import Database
from registry.errors import ConflictError
from registry.evaluations import Evaluations
from registry.measurements import Measurements
from registry.predictions import Predictions, read_predictions
from registry.tables import EvaluationRow


@dataclass(frozen=True)
class Filters:
    """Which predictions a page shows.

    Attributes:
        wrong: Whether the answer is wrong; None: all.
        label: Class of the images; None: any.
        predicted: The answer; None: any.
        changed: Whether the first version's answer is another one; None: all.
        place: Where in the request they are, for messages.
    """

    wrong: bool | None = None
    label: str | None = None
    predicted: str | None = None
    changed: bool | None = None
    place: tuple[str, ...] = ("query",)


def find_rows(
    database: Database, blobs: BlobStore, identifier: str, version_id: int | None, filters: Filters
) -> tuple[EvaluationRow, list[int]]:
    """Return an evaluation, and the rows of its split whose predictions pass the filters, ascending."""
    version, first = _versions(database, identifier, version_id, filters.place)
    chosen = _read(database, blobs, version)
    before = None if version.version_id == first.version_id else _read(database, blobs, first)
    with database.read() as session:
        row = Evaluations(session).get(identifier)
    return row, _matching(chosen, before, filters).to_pylist()


def list_predictions(
    database: Database,
    blobs: BlobStore,
    identifier: str,
    version_id: int | None,
    filters: Filters,
    limit: int,
    cursor: str | None,
) -> PredictionList:
    """Return a page of the predictions that pass the filters.

    Args:
        version_id: One of the evaluation's versions; None: the first one.
        cursor: Of the page before; None: the first page.
    """
    version, first = _versions(database, identifier, version_id)
    chosen = _read(database, blobs, version)
    before = None if version.version_id == first.version_id else _read(database, blobs, first)
    indices = _matching(chosen, before, filters)
    start = _start(cursor)
    shown = indices[start : start + limit]
    is_last = start + limit >= len(indices)
    return PredictionList(
        version_id=version.version_id,
        total=len(indices),
        items=_items(chosen, before, shown),
        next_cursor=None if is_last else str(start + limit),
    )


def parquet_of(database: Database, blobs: BlobStore, identifier: str, version_id: int | None) -> bytes:
    """Return the file of all predictions of a version: its columns index the labels in the schema's metadata."""
    version, _ = _versions(database, identifier, version_id)
    return blobs.fetch(_sha256_of(database, version)).read_bytes()


def csv_of(database: Database, blobs: BlobStore, identifier: str, version_id: int | None) -> bytes:
    """Return all predictions of a version as CSV, with the names of the labels."""
    version, _ = _versions(database, identifier, version_id)
    found = _read(database, blobs, version)
    names = pa.array(found.labels)
    table = found.table
    for column in ("label", "predicted"):
        position = table.schema.get_field_index(column)
        table = table.set_column(position, column, pc.take(names, table[column]))
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    return bytes(sink.getvalue())


def _versions(
    database: Database, identifier: str, version_id: int | None, place: tuple[str, ...] = ("query",)
) -> tuple[EvaluatedVersion, EvaluatedVersion]:
    """Return the result of a version of the evaluation, and that of its first version."""
    with database.read() as session:
        row = Evaluations(session).get(identifier)
    if row.report is None:
        raise ConflictError(f"Evaluation {identifier} is not finished.", f"Wait until job {row.job_id} has succeeded.")
    versions = EvaluationReport.of_stored(row.report).versions
    found = [each for each in versions if version_id in (None, each.version_id)]
    if not found:
        ids = ", ".join(str(each.version_id) for each in versions)
        raise invalid(f"is not a version of this evaluation: it has {ids}", *place, "version")
    return found[0], versions[0]


def _sha256_of(database: Database, version: EvaluatedVersion) -> str:
    with database.read() as session:
        return Measurements(session).find([version.measurement_id])[version.measurement_id].predictions_sha256


def _read(database: Database, blobs: BlobStore, version: EvaluatedVersion) -> Predictions:
    return read_predictions(blobs.fetch(_sha256_of(database, version)))


def _matching(chosen: Predictions, before: Predictions | None, filters: Filters) -> pa.Array:
    """Return the indices of the images that pass the filters, ascending."""
    table = chosen.table
    tests = []
    if filters.wrong is not None:
        is_wrong = pc.fill_null(pc.not_equal(table["label"], table["predicted"]), False)
        tests.append(is_wrong if filters.wrong else pc.invert(is_wrong))
    for column, name in (("label", filters.label), ("predicted", filters.predicted)):
        if name is not None:
            tests.append(
                pc.fill_null(pc.equal(table[column], _place(chosen.labels, name, (*filters.place, column))), False)
            )
    if filters.changed is not None:
        same = table["predicted"] if before is None else before.table["predicted"]
        has_changed = pc.not_equal(table["predicted"], same)
        tests.append(has_changed if filters.changed else pc.invert(has_changed))
    indices = pa.array(range(len(table)), pa.int32())
    for test in tests:
        mask = test.combine_chunks() if isinstance(test, pa.ChunkedArray) else test
        indices = indices.filter(pc.take(mask, indices))
    return indices


def _place(labels: Sequence[str], name: str, place: tuple[str, ...]) -> int:
    try:
        return labels.index(name)
    except ValueError:
        raise invalid("is not one of the labels of this evaluation", *place) from None


def _start(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 9):
        raise invalid("is not a cursor of this list: send `next_cursor` of the page before", "query", "cursor")
    return int(cursor)


def _items(chosen: Predictions, before: Predictions | None, indices: pa.Array) -> list[ImagePrediction]:
    labels = chosen.labels
    rows = zip(indices.to_pylist(), chosen.table.take(indices).to_pylist(), strict=True)
    earlier = None if before is None else before.table["predicted"].take(indices).to_pylist()
    return [
        ImagePrediction(
            index=index,
            image=row["image"],
            label=None if row["label"] is None else labels[row["label"]],
            predicted=labels[row["predicted"]],
            probability=row["probability"],
            margin=row["margin"],
            predicted_before=None if earlier is None else labels[earlier[place]],
        )
        for place, (index, row) in enumerate(rows)
    ]
