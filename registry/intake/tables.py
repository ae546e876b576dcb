"""Reading tables of labels: CSV, JSON lines and Parquet, row by row, from a file on disk."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from registry.errors import ArchiveRefusedError

_MAX_LINE_CHARACTERS = 1 << 20
_ROWS_PER_BATCH = 1024
_DELIMITERS = ",\t;"
Row = dict[str, Any]


def read_csv(path: Path, name: str) -> Iterator[tuple[int, Row]]:
    """Yield `(line number, row)` of a CSV table with a header; commas, tabs or semicolons divide it.

    Args:
        path: The table on disk.
        name: Its name in the upload.

    Yields:
        tuple[int, Row]: Cells by column, as text.

    Raises:
        ArchiveRefusedError: It is not UTF-8, or no CSV.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline(_MAX_LINE_CHARACTERS)
            delimiter = max(_DELIMITERS, key=header.count)
            file.seek(0)
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            for row in reader:
                yield reader.line_num, {key.strip(): value for key, value in row.items() if isinstance(key, str)}
    except (UnicodeDecodeError, csv.Error) as error:
        raise refuse_table(name, str(error)) from error


def read_json_lines(path: Path, name: str) -> Iterator[tuple[int, Row]]:
    """Yield `(line number, row)` of a table with a JSON object a line; arguments and errors as for `read_csv`."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE_CHARACTERS), ""), 1):
                if line.strip():
                    row = json.loads(line)
                    yield number, row if isinstance(row, dict) else {}
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise refuse_table(name, str(error)) from error


def read_parquet(path: Path, name: str, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Yield `(row number, row)` of a Parquet table, columns that are not there left out; errors as for `read_csv`."""
    number = 0
    with closing(open_parquet(path, name)) as file:
        present = [column for column in columns if column in file.schema_arrow.names]
        try:
            for batch in file.iter_batches(batch_size=_ROWS_PER_BATCH, columns=present):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (pa.ArrowException, OSError, ValueError) as error:
            raise refuse_table(name, str(error)) from error


def open_parquet(path: Path, name: str) -> pq.ParquetFile:
    """Return the Parquet file, or raise `ArchiveRefusedError`; close it."""
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise refuse_table(name, str(error)) from error


def refuse_table(name: str, reason: str) -> ArchiveRefusedError:
    """Return the error of a table that cannot be read."""
    return ArchiveRefusedError(
        "bad_table", f"{name!r} cannot be read ({' '.join(reason.split())[:200]}).", "Write it anew, as UTF-8."
    )
