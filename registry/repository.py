"""What all repositories share: the transaction that they work in, and the clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.orm import Session

from registry.database import utc_now


class Repository:
    """All SQL about one kind of thing, within one transaction; committing is left to whoever opened it.

    Args:
        session: The transaction.
        now: Clock; tests pass their own.
    """

    def __init__(self, session: Session, now: Callable[[], datetime] = utc_now) -> None:
        self._session = session
        self._now = now
