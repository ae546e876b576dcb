"""Parquet files from untrusted uploads: the cost of reading is known before reading, whatever the footer claims.

Arrow reads a whole page, and a dictionary page holds values that any number of rows repeat: 2 KB are enough for 60 MiB
in each row. The sizes in the footer are claims. Those in the headers of pages hold, since unpacking a page fails if it
does not give as much as its header says; so these headers are read first. Then rows come one by one, without a copy of
their bytes, and what they repeat is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from registry.archives import ArchiveLimits, quote_name, refuse_bomb, refuse_table
from registry.errors import ArchiveRefusedError
from registry.intake.page_headers import read_page_sizes

_MAX_FOOTER_BYTES = 16 << 20
_MAX_COLUMNS = 1000
_BUFFER_BYTES = 1 << 20
_FAILURES = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError, MemoryError)


class ParquetTable:
    """An open Parquet file."""

    def __init__(self, path: Path, name: str, limits: ArchiveLimits) -> None:
        self._path = path
        self._name = name
        self._limits = limits
        self._packed_bytes = path.stat().st_size
        with self._readable():
            self._check_footer()
            self._file = pq.ParquetFile(
                path,
                buffer_size=_BUFFER_BYTES,  # else it reads a whole row group into memory
                pre_buffer=False,
                thrift_string_size_limit=_MAX_FOOTER_BYTES,
            )
        try:
            self._check_metadata(self._file.metadata)
            with self._readable():
                self.schema: pa.Schema = self._file.schema_arrow
        except ArchiveRefusedError:
            self.close()
            raise

    @property
    def plain_columns(self) -> list[str]:
        """Columns of numbers or text, which are all that can name a file or a class."""
        return [field.name for field in self.schema if is_plain(field.type)]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read_rows(self, columns: Sequence[str]) -> Iterator[list[pa.Scalar]]:
        """Yield the values of some columns, row by row.

        Args:
            columns: Paths of existing columns with values, not fields, such as `image.bytes`.

        Raises:
            ArchiveRefusedError: The file is damaged, or unpacks to more than the budgets allow.
        """
        left = self._most_bytes
        with self._readable():
            self._check_pages(columns)
            for batch in self._file.iter_batches(batch_size=1, columns=list(columns), use_threads=False):
                values = [_value(batch, column) for column in columns]
                left -= sum(size_of(value) for value in values)
                if left < 0:
                    raise refuse_bomb(
                        f"The rows of {quote_name(self._name)} contain more than {self._most_bytes} bytes."
                    )
                yield values

    @property
    def _most_bytes(self) -> int:
        """What may come out of a file of this size."""
        ratio = int(self._limits.max_ratio * self._packed_bytes)
        return min(max(ratio, self._limits.ratio_floor_bytes), self._limits.max_total_bytes)

    def _check_footer(self) -> None:
        with self._path.open("rb") as file:
            file.seek(max(self._packed_bytes - 8, 0))
            footer_bytes = int.from_bytes(file.read(4), "little")
        if footer_bytes > _MAX_FOOTER_BYTES:
            raise refuse_table(self._name, f"its footer is larger than {_MAX_FOOTER_BYTES} bytes")

    def _check_metadata(self, metadata: pq.FileMetaData) -> None:
        if metadata.num_columns > _MAX_COLUMNS:
            raise refuse_table(self._name, f"it has {metadata.num_columns} columns; the limit is {_MAX_COLUMNS}")
        if metadata.num_rows > self._limits.max_members:
            raise refuse_bomb(f"The file has {metadata.num_rows} rows; the limit is {self._limits.max_members}.")

    def _check_pages(self, columns: Sequence[str]) -> None:
        """Refuse columns whose pages unpack to too much."""
        total = 0
        with self._path.open("rb") as file:
            for chunk in self._chunks(columns):
                for num_bytes in read_page_sizes(file, chunk, self._packed_bytes):
                    total += num_bytes
                    if total > self._most_bytes:
                        raise refuse_bomb(
                            f"{quote_name(self._name)} unpacks to more than {self._most_bytes} bytes from "
                            f"{self._packed_bytes}, which is not plausible for images."
                        )

    def _chunks(self, columns: Sequence[str]) -> Iterator[pq.ColumnChunkMetaData]:
        metadata = self._file.metadata
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            for index in self._indices(columns):
                yield row_group.column(index)

    def _indices(self, columns: Sequence[str]) -> list[int]:
        schema = self._file.schema
        return [index for index in range(len(schema.names)) if schema.column(index).path in columns]

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            raise refuse_table(self._name, str(error) or type(error).__name__) from error


def is_plain(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds a number, a truth value or a text in each row, or nothing."""
    if pa.types.is_dictionary(kind):
        return is_plain(kind.value_type)
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
    return any(test(kind) for test in (*tests, pa.types.is_boolean, pa.types.is_null))


def size_of(value: pa.Scalar) -> int:
    """Return how many bytes a text or binary value has; 0 for all others."""
    return value.as_buffer().size if isinstance(value, pa.BinaryScalar) and value.is_valid else 0


def _value(batch: pa.RecordBatch, path: str) -> pa.Scalar:
    """Return the value of a column, or of a field within one, in the only row; of a dictionary, the entry."""
    name = path if path in batch.schema.names else path.rpartition(".")[0]
    found = batch.column(name)[0]
    if name != path:
        found = found[path[len(name) + 1 :]] if found.is_valid else pa.NULL
    return found.value if isinstance(found, pa.DictionaryScalar) else found
