"""Pages of a list, newest first. A page begins after the last row of the one before, whatever was added since.

The cursor names that row by the columns that the list is ordered by. So a page costs the same wherever it lies, and
none repeats or leaves out a row that was there all the time. (An offset does both, and gets slower.)
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, and_, or_
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Session

from contract.names import check_text
from registry.errors import RequestRefusedError

_MAX_INT = 2**31 - 1  # of an INTEGER in PostgreSQL
RowT = TypeVar("RowT", bound=DeclarativeBase)


class Page(list[RowT]):
    """Rows, newest first.

    Args:
        rows: Of this page.
        next_cursor: Where the next page begins; None on the last page.
    """

    def __init__(self, rows: Iterable[RowT], next_cursor: str | None = None) -> None:
        super().__init__(rows)
        self.next_cursor = next_cursor


def read_page(
    session: Session,
    query: Select[RowT],
    keys: tuple[InstrumentedAttribute[Any], ...],
    limit: int,
    cursor: str | None,
) -> Page[RowT]:
    """Return a page of a query's rows.

    Args:
        keys: Columns to order by, descending; together they are unique.
        limit: Maximum number of rows, at least 1.
        cursor: The page before's `next_cursor`; None means the first page.
    """
    table = keys[0].class_.__tablename__
    if cursor is not None:
        kinds = [key.type.python_type for key in keys]
        query = query.where(_after(keys, decode_cursor(cursor, table, kinds)))
    rows = session.scalars(query.order_by(*(key.desc() for key in keys)).limit(limit + 1)).all()
    if len(rows) <= limit:
        return Page(rows)
    last = rows[limit - 1]
    return Page(rows[:limit], encode_cursor(table, [getattr(last, key.key) for key in keys]))


def _after(keys: tuple[InstrumentedAttribute[Any], ...], values: list[Any]) -> ColumnElement[bool]:
    """Whether a row comes after the one with these values."""
    ties = [key == value for key, value in zip(keys, values, strict=True)]
    return or_(*(and_(*ties[:place], key < values[place]) for place, key in enumerate(keys)))


def encode_cursor(name: str, values: list[Any]) -> str:
    """Return the cursor of a list after the item with these values; `name` is that of the list."""
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    return base64.urlsafe_b64encode(json.dumps([name, *plain]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, name: str, kinds: Sequence[type]) -> list[Any]:
    """Return the values in a cursor of the list `name`.

    Args:
        cursor: From a request.
        name: Of the list.
        kinds: Types of the values.

    Raises:
        RequestRefusedError: It is not such a cursor.
    """
    try:
        named, *plain = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        values = [
            datetime.fromisoformat(value) if issubclass(kind, datetime) else value
            for kind, value in zip(kinds, plain, strict=True)
        ]
        if named != name or not all(type(value) is kind for value, kind in zip(values, kinds, strict=True)):
            raise ValueError
        return [_storable(value) for value in values]
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RequestRefusedError(
            "bad_cursor",
            "Invalid cursor.",
            "Use `next_cursor` of the previous page, or omit it.",
        ) from error


def _storable(value: Any) -> Any:
    """Return a value that both databases can compare with; of a tampered cursor it may be one that they cannot."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError
        return value.astimezone(UTC)
    if isinstance(value, int) and abs(value) > _MAX_INT:
        raise ValueError
    if isinstance(value, str):
        check_text(value)
    return value
