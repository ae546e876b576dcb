"""Reading tables of labels: CSV, JSON, JSON lines and Parquet, row by row, from a file on disk.

Only the requested columns are kept, and each value is cut to the length of a name, so memory does not depend on other
content of a table.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from registry.archives import ArchiveLimits, refuse_table
from registry.intake.annotations import refuse_known_json
from registry.intake.names import EXTENSIONS
from registry.intake.parquet_pages import ParquetTable, size_of

_MAX_ROW_CHARACTERS = 1 << 20
_MAX_VALUE_CHARACTERS = 4096  # more than any name in an archive or any label has
_MAX_COLUMNS = 1000
_MAX_JSON_BYTES = 16 << 20  # read at once
_MAX_SKIPPED_LINES = 100
_DELIMITERS = ",\t;|"
_COPY_BYTES = 1 << 20
_JSON_ROWS = ("data", "rows", "images", "annotations", "labels", "items", "samples")
_HEADER_ROWS = 20
Row = dict[str, Any]


@dataclass(frozen=True)
class CsvForm:
    """Format of a CSV file.

    Attributes:
        encoding: Python's name of it.
        is_sure: Whether the encoding is certain.
        delimiter: Character between cells.
        num_skipped: Lines before the header: comments, and Excel's `sep=;`.
        header: Names of the columns; numbers from 1 on if the first row already contains values.
        has_header: Whether the first row names the columns.
        first_row: Its cells.
    """

    encoding: str
    is_sure: bool
    delimiter: str
    num_skipped: int
    header: tuple[str, ...]
    has_header: bool
    first_row: tuple[str, ...] = ()


class _Rows(Iterator[str]):
    """Lines of a CSV file; raises an error if a row is too long."""

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
        """Reset the count."""
        self._num_characters = 0


def inspect_csv(path: Path, name: str) -> CsvForm:
    """Return the format of a CSV table.

    Returns:
        Its encoding (UTF-8, UTF-16, or else Windows-1252, which gives each byte a meaning), delimiter and header.

    Raises:
        ArchiveRefusedError: It is not a CSV file, or has a row that is too long or too many columns.
    """
    encoding, is_sure = _detect_encoding(path)
    try:
        with path.open(encoding=encoding, newline="") as file:
            rows, delimiter, num_skipped, line = _Rows(file), "", 0, ""
            for line in islice(rows, _MAX_SKIPPED_LINES):
                text = line.strip()
                if text.lower().startswith("sep=") and len(text) == 5:
                    delimiter = text[4]
                elif text and not text.startswith("#"):
                    break
                num_skipped += 1
                line = ""
            delimiter = delimiter or max(_DELIMITERS, key=line.count)
            cells = tuple(cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), []))
    except (UnicodeError, csv.Error) as error:
        raise refuse_table(name, str(error)) from error
    if len(cells) > _MAX_COLUMNS:
        raise refuse_table(name, f"it has {len(cells)} columns; the limit is {_MAX_COLUMNS}")
    has_header = not any(cell.lower().endswith(EXTENSIONS) for cell in cells)
    header = cells if has_header else tuple(str(number) for number in range(1, len(cells) + 1))
    return CsvForm(encoding, is_sure, delimiter, num_skipped, header, has_header, cells)


def _detect_encoding(path: Path) -> tuple[str, bool]:
    with path.open("rb") as file:
        start = file.read(4096)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16", True
        if b"\0" in start:
            return ("utf-16-le" if start[1:2] == b"\0" else "utf-16-be"), True
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while data := file.read(_COPY_BYTES):
                decoder.decode(data)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252", False
    return "utf-8-sig", True


def read_csv(path: Path, name: str, columns: Collection[str], form: CsvForm | None = None) -> Iterator[tuple[int, Row]]:
    """Yield `(line number, row)` of a CSV table.

    Args:
        form: Its format; default: from `inspect_csv`.

    Yields:
        tuple[int, Row]: Cells by column, as text; None where a row is too short.

    Raises:
        ArchiveRefusedError: It is not a CSV file, or has rows that are too long or too many columns.
    """
    form = form or inspect_csv(path, name)
    positions = {column: index for index, column in enumerate(form.header) if column in columns}
    try:
        with path.open(encoding=form.encoding, errors="strict" if form.is_sure else "replace", newline="") as file:
            lines = _Rows(file)
            for _ in range(form.num_skipped):
                next(lines)
                lines.end_row()
            reader = csv.reader(lines, delimiter=form.delimiter, strict=True)
            if form.has_header:
                next(reader, None)
            lines.end_row()
            for cells in filter(None, reader):
                lines.end_row()
                row = {column: cells[at] if at < len(cells) else None for column, at in positions.items()}
                yield reader.line_num + form.num_skipped, {column: _cut(value) for column, value in row.items()}
    except (UnicodeError, csv.Error) as error:
        raise refuse_table(name, str(error)) from error


def read_json_lines(path: Path, name: str, columns: Collection[str] | None) -> Iterator[tuple[int, Row]]:
    """Yield `(line number, row)` of a table with a JSON object a line; arguments and errors as for `read_csv`."""
    for number, found in read_json_objects(path, name):
        yield number, _pick(found, columns)


def read_json_objects(path: Path, name: str) -> Iterator[tuple[int, Any]]:
    """Yield `(line number, value)` of a file with a JSON value a line; errors as for `read_csv`."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_ROW_CHARACTERS + 1), ""), 1):
                if len(line) > _MAX_ROW_CHARACTERS:
                    raise ValueError(f"a line has more than {_MAX_ROW_CHARACTERS} characters")
                if line.strip():
                    yield number, json.loads(line)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise refuse_table(name, str(error)) from error


def read_json(path: Path, name: str, columns: Collection[str] | None) -> Iterator[tuple[int, Row]]:
    """Yield `(row number, row)` of a JSON file: a list of objects, alone or in an object, or labels by file name.

    Yields:
        tuple[int, Row]: Values by column; `file_name` and `label` if it is an object from name to label.

    Raises:
        ArchiveRefusedError: It is not JSON, or too large to be read at once.
    """
    data = load_json(path, name)
    refuse_known_json(name, data)
    if isinstance(data, dict) and data and all(key.lower().endswith(EXTENSIONS) for key in data):
        data = [
            {"file_name": key, **value} if isinstance(value, dict) else {"file_name": key, "label": value}
            for key, value in data.items()
        ]
    elif isinstance(data, dict):
        data = next((data[key] for key in _JSON_ROWS if isinstance(data.get(key), list)), [])
    for number, row in enumerate(data if isinstance(data, list) else [], 1):
        yield number, _pick(row, columns)


def load_json(path: Path, name: str) -> Any:
    """Return what a JSON file holds; errors as for `read_json`."""
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise refuse_table(name, f"it is larger than {_MAX_JSON_BYTES} bytes; use JSON lines or CSV")
    try:
        with path.open(encoding="utf-8-sig") as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:
        raise refuse_table(name, str(error)) from error


def first_line(path: Path, name: str) -> str:
    """Return the first line of a text file that is not empty; errors as for `read_csv`."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for _ in range(_MAX_SKIPPED_LINES):
                line = file.readline(_MAX_ROW_CHARACTERS + 1)
                if line.strip() or not line:
                    return line
    except UnicodeError as error:
        raise refuse_table(name, str(error)) from error
    return ""


def _pick(row: Any, columns: Collection[str] | None) -> Row:
    known = row if isinstance(row, dict) else {}
    wanted = list(islice(known, _MAX_COLUMNS)) if columns is None else columns
    return {column: _cut(known[column]) for column in wanted if column in known}


def json_columns(path: Path, name: str, *, is_lines: bool) -> tuple[str, ...]:
    """Return the columns of a JSON table, by its first rows; errors as for `read_json`."""
    rows = read_json_lines(path, name, None) if is_lines else read_json(path, name, None)
    return tuple(dict.fromkeys(column for _, row in islice(rows, _HEADER_ROWS) for column in row))


def read_parquet(path: Path, name: str, columns: Collection[str], limits: ArchiveLimits) -> Iterator[tuple[int, Row]]:
    """Yield `(row number, row)` of a Parquet table, columns that are not there left out."""
    with closing(ParquetTable(path, name, limits)) as table:
        present = [column for column in columns if column in table.plain_columns]
        for number, values in enumerate(table.read_rows(present), 1):
            yield number, {column: _plain(value) for column, value in zip(present, values, strict=True)}


def parquet_columns(path: Path, name: str, limits: ArchiveLimits) -> tuple[str, ...]:
    """Return the columns of a Parquet table that hold numbers or text; errors as for `read_parquet`."""
    with closing(ParquetTable(path, name, limits)) as table:
        return tuple(table.plain_columns)


def _plain(value: Any) -> Any:
    if size_of(value) > 4 * _MAX_VALUE_CHARACTERS:
        return (
            value.as_buffer()[: 4 * _MAX_VALUE_CHARACTERS].to_pybytes().decode(errors="replace")[:_MAX_VALUE_CHARACTERS]
        )
    return _cut(value.as_py())


def _cut(value: Any) -> Any:
    """Return the relevant part of a value: names are not longer, and lists and objects are not names."""
    if isinstance(value, str):
        return value[:_MAX_VALUE_CHARACTERS]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | int):
        return [_cut(value[0])]
    return type(value)() if isinstance(value, list | dict) else value
