"""This process among the API processes of an installation: it announces itself and what it serves.

It uses the database, not the broker, which may lose everything at any time; a lost announcement would look like a
stopped process.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import Annotated

from sqlalchemy.exc import SQLAlchemyError

from app.http.dependencies import provided
from app.models.pool import VersionPool
from contract.versions import ACTIVE_ALIAS, CANARY_ALIAS, SHADOW_ALIAS
from registry.database import Database, utc_now
from registry.replicas import Identity, Replicas, Serving

LOOK_SECONDS = 1.0
"""How often it checks whether the served versions have changed."""

_ALIVE_INTERVALS = 3.0


class ReplicaAnnouncer:
    """Announces this process in the database, at least every `interval_seconds` and whenever what it serves changes."""

    def __init__(self, database: Database, versions: VersionPool, interval_seconds: float) -> None:
        self._database = database
        self._versions = versions
        self._interval_seconds = interval_seconds
        self._told: Serving | None = None
        self._told_at = 0.0
        self._lock = threading.Lock()
        self.identity = Identity(f"rep_{secrets.token_hex(8)}", f"{socket.gethostname()}:{os.getpid()}", utc_now())

    @property
    def alive_seconds(self) -> float:
        """A process that has been silent for longer is probably gone."""
        return _ALIVE_INTERVALS * self._interval_seconds + LOOK_SECONDS

    @property
    def serving(self) -> Serving:
        """The versions that this process serves now."""
        held = map(self._versions.serving, (ACTIVE_ALIAS, CANARY_ALIAS, SHADOW_ALIAS))
        return Serving(*(model.version_id if model else None for model in held))

    def announce(self) -> None:
        """Announce what is served, if that has changed or was announced long ago."""
        with self._lock:
            serving = self.serving
            if serving == self._told and time.monotonic() - self._told_at < self._interval_seconds:
                return
            with self._database.write() as session:
                Replicas(session).announce(self.identity, serving)
            self._told, self._told_at = serving, time.monotonic()

    def is_alone(self, *, on_other_machines: bool = False) -> bool:
        """Return whether no other API process of the installation was heard of lately.

        Args:
            on_other_machines: Whether only those on other machines count.
        """
        since = utc_now() - timedelta(seconds=self.alive_seconds)
        try:
            with self._database.read() as session:
                rows = Replicas(session).all()
        except SQLAlchemyError:
            return True
        others = [row for row in rows if row.id != self.identity.id and row.seen_at >= since]
        return not others or (
            on_other_machines and all(_machine(row.host) == _machine(self.identity.host) for row in others)
        )

    def withdraw(self) -> None:
        """Announce that this process stops; without the database, the others notice its silence."""
        with suppress(SQLAlchemyError), self._database.write() as session:
            Replicas(session).withdraw(self.identity.id)


def _machine(host: str) -> str:
    return host.rpartition(":")[0]


ReplicaDep = Annotated[ReplicaAnnouncer, provided(ReplicaAnnouncer)]
