"""API processes of an installation, as they register themselves, and what each of them serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from registry.repository import Repository
from registry.tables import ReplicaRow

FORGET_SECONDS = 3600.0
"""A process that has not been seen for this long is removed."""


@dataclass(frozen=True)
class Serving:
    """The versions that a process serves; None where there is none.

    Attributes:
        active: Serves requests.
        canary: Serves a share of them.
        shadow: Runs in shadow; its results are only counted.
    """

    active: int | None = None
    canary: int | None = None
    shadow: int | None = None


@dataclass(frozen=True)
class Identity:
    """Which process it is."""

    id: str
    host: str
    started_at: datetime


class Replicas(Repository):
    """API processes within one transaction."""

    def announce(self, who: Identity, serving: Serving) -> None:
        """Write down that the process is there and what it serves; forget those that have been silent for long."""
        row = self._session.get(ReplicaRow, who.id)
        if row is None:
            row = ReplicaRow(id=who.id, host=who.host, started_at=who.started_at)
            self._session.add(row)
        row.seen_at = self._now()
        row.version_id, row.canary_version_id, row.shadow_version_id = serving.active, serving.canary, serving.shadow
        silent_since = self._now() - timedelta(seconds=FORGET_SECONDS)
        self._session.execute(delete(ReplicaRow).where(ReplicaRow.seen_at < silent_since))

    def withdraw(self, replica_id: str) -> None:
        """Forget a process that stops."""
        self._session.execute(delete(ReplicaRow).where(ReplicaRow.id == replica_id))

    def all(self) -> Sequence[ReplicaRow]:
        """Return every process that is known, in the order in which they started."""
        return self._session.scalars(select(ReplicaRow).order_by(ReplicaRow.started_at, ReplicaRow.id)).all()
