"""What all repositories share: the transaction that they work in, and the clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from sqlalchemy.orm import Session

from registry.database import utc_now
from registry.errors import NotFoundError
from registry.tables import Base

_RowT = TypeVar("_RowT", bound=Base)


class Repository:
    """All SQL about one kind of row, within one transaction; the caller commits.

    Args:
        session: The transaction.
        now: Clock; tests pass their own.
    """

    def __init__(self, session: Session, now: Callable[[], datetime] = utc_now) -> None:
        self._session = session
        self._now = now

    def _get(
        self, table: type[_RowT], identifier: object, kind: str, advice: str = "", *, locked: bool = False
    ) -> _RowT:
        """Return the row with this id, or raise `NotFoundError`; `locked` keeps it until the transaction ends."""
        row = self._session.get(table, identifier, with_for_update=locked or None, populate_existing=locked)
        if row is None:
            raise NotFoundError(kind, identifier, advice)
        return row
