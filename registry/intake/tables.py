"""Reading tables of labels: CSV, JSON lines and Parquet, row by row, from a file on disk.

Only the columns that are asked for are kept, and of each value only as much as a name can have, so memory does not
follow what a table holds beside them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

from registry.archives import ArchiveLimits, refuse_table
from registry.intake.parquet_pages import ParquetTable, size_of

_MAX_ROW_CHARACTERS = 1 << 20
_MAX_VALUE_CHARACTERS = 4096  # more than any name in an archive or any label has
_MAX_COLUMNS = 1000
_DELIMITERS = ",\t;"
Row = dict[str, Any]


class _Rows(Iterator[str]):
    """Lines of a CSV file, as long as the row that they belong to is not too long."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._num_characters = 0

    def __next__(self) -> str:
        line = self._file.readline(_MAX_ROW_CHARACTERS + 1)
        self._num_characters += len(line)
        if self._num_characters > _MAX_ROW_CHARACTERS:
            raise csv.Error(f"a row has more than {_MAX_ROW_CHARACTERS} characters")
        if not line:
            raise StopIteration
        return line

    def end_row(self) -> None:
        """Begin to count anew."""
        self._num_characters = 0


def read_csv(path: Path, name: str, columns: Collection[str]) -> Iterator[tuple[int, Row]]:
    """Yield `(line number, row)` of a CSV table with a header; commas, tabs or semicolons divide it.

    Args:
        path: The table on disk.
        name: Its name in the upload.
        columns: Those to read; others are left out.

    Yields:
        tuple[int, Row]: Cells by column, as text; None where a row is too short.

    Raises:
        ArchiveRefusedError: It is not UTF-8, no CSV, or has too long rows or too many columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline(_MAX_ROW_CHARACTERS)
            delimiter = max(_DELIMITERS, key=header.count)
            file.seek(0)
            lines = _Rows(file)
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            positions = _find_columns(next(reader, []), columns)
            lines.end_row()
            for cells in filter(None, reader):
                lines.end_row()
                row = {column: cells[at] if at < len(cells) else None for column, at in positions.items()}
                yield reader.line_num, {column: _cut(value) for column, value in row.items()}
    except (UnicodeDecodeError, csv.Error) as error:
        raise refuse_table(name, str(error)) from error


def _find_columns(header: list[str], columns: Collection[str]) -> dict[str, int]:
    if len(header) > _MAX_COLUMNS:
        raise csv.Error(f"it has {len(header)} columns; {_MAX_COLUMNS} is the limit")
    return {name.strip(): index for index, name in enumerate(header) if name.strip() in columns}


def read_json_lines(path: Path, name: str, columns: Collection[str]) -> Iterator[tuple[int, Row]]:
    """Yield `(line number, row)` of a table with a JSON object a line; arguments and errors as for `read_csv`."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_ROW_CHARACTERS + 1), ""), 1):
                if len(line) > _MAX_ROW_CHARACTERS:
                    raise ValueError(f"a line has more than {_MAX_ROW_CHARACTERS} characters")
                if line.strip():
                    row = json.loads(line)
                    known = row if isinstance(row, dict) else {}
                    yield number, {column: _cut(known[column]) for column in columns if column in known}
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise refuse_table(name, str(error)) from error


def read_parquet(path: Path, name: str, columns: Collection[str], limits: ArchiveLimits) -> Iterator[tuple[int, Row]]:
    """Yield `(row number, row)` of a Parquet table, columns that are not there left out.

    Args:
        path: The table on disk.
        name: Its name in the upload.
        columns: Those to read.
        limits: The budgets of the upload.

    Yields:
        tuple[int, Row]: Values by column.

    Raises:
        ArchiveRefusedError: It is damaged, or unpacks to more than the budgets allow.
    """
    with closing(ParquetTable(path, name, limits)) as table:
        present = [column for column in columns if column in table.plain_columns]
        for number, values in enumerate(table.read_rows(present), 1):
            yield number, {column: _plain(value) for column, value in zip(present, values, strict=True)}


def _plain(value: Any) -> Any:
    if size_of(value) > 4 * _MAX_VALUE_CHARACTERS:
        return (
            value.as_buffer()[: 4 * _MAX_VALUE_CHARACTERS].to_pybytes().decode(errors="replace")[:_MAX_VALUE_CHARACTERS]
        )
    return _cut(value.as_py())


def _cut(value: Any) -> Any:
    """Return as much of a value as can matter: what is longer is no name, and lists and objects are none either."""
    if isinstance(value, str):
        return value[:_MAX_VALUE_CHARACTERS]
    return type(value)() if isinstance(value, list | dict) else value
