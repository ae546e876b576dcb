"""The headers of a Parquet file's pages: how many bytes each of them unpacks to.

Neither Arrow nor its Python package tells. A header is a `PageHeader` of Apache Parquet's format, written in Thrift's
compact protocol: its fields 2 and 3 are the sizes of the page unpacked and packed, and everything else is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow.parquet as pq

_MAX_PAGES = 2_000_000  # of one column in one row group; programs put about 1 MiB into a page
_MAX_NESTING = 8
_MAX_SKIPPED = 10_000
_UNPACKED, _PACKED = 2, 3
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = (*range(1, 9), 12)


def read_page_sizes(file: BinaryIO, chunk: pq.ColumnChunkMetaData, file_bytes: int) -> Iterator[int]:
    """Yield the unpacked size in bytes of each page of a column chunk.

    Raises:
        ValueError: The chunk or a header is outside the file, or cannot be read.
    """
    starts = [chunk.data_page_offset, chunk.dictionary_page_offset if chunk.has_dictionary_page else None]
    position = min(start for start in starts if start)
    end = position + chunk.total_compressed_size
    if not 0 < position <= end <= file_bytes:
        raise ValueError("a column is outside the file")
    for _ in range(_MAX_PAGES):
        if position >= end:
            return
        file.seek(position)
        unpacked, packed = _Header(file).read_sizes()
        position = file.tell() + packed
        yield unpacked
    raise ValueError(f"a column has more than {_MAX_PAGES} pages")


class _Header:
    """A page's header, read from where the file stands."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._num_skipped = 0

    def read_sizes(self) -> tuple[int, int]:
        """Return the sizes of the page, unpacked and packed; afterwards the file stands behind the header."""
        sizes: dict[int, int] = {}
        for field, kind in self._fields():
            if field in (_UNPACKED, _PACKED) and kind == _I32:
                sizes[field] = self._integer()
            else:
                self._skip(kind, 0)
        if len(sizes) < 2 or min(sizes.values()) < 0:
            raise ValueError("a page has no size")
        return sizes[_UNPACKED], sizes[_PACKED]

    def _fields(self) -> Iterator[tuple[int, int]]:
        """Yield number and type of a structure's fields; the caller reads or skips each value."""
        field = 0
        while byte := self._byte():
            field = field + (byte >> 4) if byte >> 4 else self._integer()
            yield field, byte & 0x0F

    def _skip(self, kind: int, depth: int) -> None:
        self._num_skipped += 1
        if depth > _MAX_NESTING or self._num_skipped > _MAX_SKIPPED:
            raise ValueError("a page header is too long")
        if kind in (_BYTE, _DOUBLE):
            self._file.seek(1 if kind == _BYTE else 8, 1)
        elif kind in (_I16, _I32, _I64):
            self._varint()
        elif kind == _BINARY:
            self._file.seek(self._varint(), 1)
        elif kind == _STRUCT:
            for _, inner in self._fields():
                self._skip(inner, depth + 1)
        elif kind not in (_TRUE, _FALSE):  # there are no lists, sets and maps in it
            raise ValueError("a page header cannot be read")

    def _integer(self) -> int:
        """Return a signed number."""
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a page header contains a number that is too large")

    def _byte(self) -> int:
        byte = self._file.read(1)
        if not byte:
            raise ValueError("a page header is truncated")
        return byte[0]
