"""Whether the database can still be read, and which blobs its rows name."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Table, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from contract.datasets import DatasetState
from contract.jobs import JobStatus
from registry.database import Database
from registry.tables import Base, DatasetRow, FeedbackRow, JobRow, MeasurementRow, PatchRow, TaskVectorRow

_MAX_PROBLEMS = 20
_ROWS = 500  # read at once


def check_database(database: Database) -> Iterator[tuple[str, str | None]]:
    """Yield each checked part of the database, and its problem.

    SQLite's own check of pages, indexes and references runs first. Then every row of every table is read; a server
    verifies its own checksums while reading.
    """
    if database.sqlite_path is not None:
        yield "pages and indexes", _run_check(database, f"PRAGMA integrity_check({_MAX_PROBLEMS})")
        yield "references", _run_check(database, "PRAGMA foreign_key_check")
    for table in Base.metadata.sorted_tables:
        yield f"table {table.name}", _read_through(database, table)


def _run_check(database: Database, pragma: str) -> str | None:
    try:
        with database.read() as session:
            rows = session.execute(text(pragma)).fetchmany(_MAX_PROBLEMS)
    except SQLAlchemyError as error:
        return _describe(error)
    found = ["; ".join(str(value) for value in row) for row in rows if tuple(row) != ("ok",)]
    return "\n".join(found)[:2000] or None


def _read_through(database: Database, table: Table) -> str | None:
    try:
        with database.read() as session:
            rows = session.execute(select(table).execution_options(yield_per=_ROWS))
            for _ in rows:
                pass
    except (SQLAlchemyError, ValueError, TypeError, ArithmeticError) as error:  # the rest: a value that is none
        return _describe(error)
    return None


def _describe(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {cause}".splitlines()[0][:500]


def find_named_blobs(session: Session) -> dict[str, str]:
    """Return all blobs that rows refer to, with what refers to them, by hash.

    Returns:
        Those of data sets, feedback, task vectors, reports, measurements and unfinished jobs; those of ended jobs may
        have been deleted.
    """
    named = {}
    for dataset in session.scalars(select(DatasetRow).execution_options(yield_per=_ROWS)):
        if dataset.state == DatasetState.INGESTING:
            named[dataset.archive_sha256] = f"archive of data set {dataset.id}"
        for split, shard in (dataset.shards or {}).items():
            named[shard["sha256"]] = f"split {split} of data set {dataset.id}"
        if dataset.test_digests is not None:
            named[dataset.test_digests] = f"digests of the test images of data set {dataset.id}"
    unfinished = select(JobRow).where(JobRow.status.in_((JobStatus.QUEUED, JobStatus.RUNNING)))
    for job in session.scalars(unfinished.execution_options(yield_per=_ROWS)):
        checkpoint = job.checkpoint or {}
        kept = [checkpoint.get("state_sha256"), *(checkpoint.get("task_vectors") or {}).values()]
        named |= {sha256: f"checkpoint of job {job.id}" for sha256 in kept if sha256}
    for sha256, job_id in session.execute(select(TaskVectorRow.sha256, TaskVectorRow.job_id)):
        named[sha256] = f"task vector of job {job_id}"
    interpolants = PatchRow.report["interpolants"]
    for patch_id, stored in session.execute(select(PatchRow.id, interpolants).where(PatchRow.report.is_not(None))):
        named |= {sha256: f"curve of patch {patch_id}" for sha256 in (stored or {}).values()}
    for sha256, measurement in session.execute(select(MeasurementRow.predictions_sha256, MeasurementRow.id)):
        named[sha256] = f"predictions of measurement {measurement}"
    for sha256, feedback in session.execute(select(FeedbackRow.image_sha256, FeedbackRow.id)):
        named[sha256] = f"image of feedback {feedback}"
    return named
