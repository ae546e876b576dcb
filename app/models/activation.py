"""Moving the alias `active`: load beside, verify, commit, swap. Whatever fails leaves the old version serving.

The alias is committed before the swap. A crash between the two is harmless: a restart, and every other replica within
a second, loads what the alias names.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import structlog

from app.http.dependencies import provided
from app.http.errors import ActivationFailedError, ActivationInProgressError, VersionNotLoadedError
from app.models.cache import VersionCache
from app.serving.engine import Engine
from app.serving.model import ServedModel
from contract.versions import ACTIVE_ALIAS
from registry.aliases import Aliases, MoveFacts
from registry.database import Database

RETRY_SECONDS = 30.0
_log = structlog.get_logger(__name__)


class Activator:
    """Puts versions into the engine, one at a time.

    Args:
        database: Holds the aliases.
        versions: Has the version, or loads it.
        engine: Serves it.
    """

    def __init__(self, database: Database, versions: VersionCache, engine: Engine) -> None:
        self._database = database
        self._versions = versions
        self._engine = engine
        self._lock = threading.Lock()
        self._failed: tuple[int, float] | None = None  # version that would not load, and when to try it again

    def activate(
        self,
        version_id: int,
        *,
        actor: str,
        reason: str,
        expected: Collection[int] | None = None,
        forced: bool = False,
        restores: int | None = None,
    ) -> None:
        """Make the version active: it answers every request that starts after this returns.

        Args:
            version_id: The version.
            actor: Who asks, for the history.
            reason: Why, for the history.
            expected: Revisions of which the alias must have one, before and after the version is loaded; None: any.
            forced: For the history: whether it was asked for whatever it costs the supported tasks.
            restores: For the history: the move that a rollback goes back to.

        Raises:
            ActivationFailedError: It could not be loaded or verified; nothing has changed.
        """
        with self.busy():
            with self._database.read() as session:
                Aliases(session).require_revision(ACTIVE_ALIAS, expected)
            try:
                model = self._versions.obtain(version_id)
            except VersionNotLoadedError as error:
                raise ActivationFailedError(version_id, error.cause) from error
            with self._database.write() as session:
                aliases = Aliases(session)
                if aliases.active_version_id() != version_id:
                    facts: MoveFacts = {
                        "actor": actor,
                        "reason": reason,
                        "expected": expected,
                        "forced": forced,
                        "restores": restores,
                    }
                    aliases.move(ACTIVE_ALIAS, version_id, **facts)
            self._swap(model)
            _log.info("version activated", version=version_id)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Hold every other activation off while the context lasts.

        Yields:
            None: What is served changes only here.

        Raises:
            ActivationInProgressError: Another activation has not ended yet.
        """
        if not self._lock.acquire(blocking=False):
            raise ActivationInProgressError()
        try:
            yield
        finally:
            self._lock.release()

    def follow_alias(self) -> None:
        """Serve what the alias names, if that is something else; a version that will not load is logged and retried."""
        served = self._engine.served
        if served is not None and served.version_id == self._named():
            return
        with suppress(ActivationInProgressError), self.busy():
            self._load_named()

    def _load_named(self) -> None:
        version_id = self._named()
        served = self._engine.served
        if version_id is None or (served is not None and served.version_id == version_id):
            return
        if self._failed and self._failed[0] == version_id and time.monotonic() < self._failed[1]:
            return
        try:
            self._swap(self._versions.obtain(version_id))
        except VersionNotLoadedError as error:
            self._failed = (version_id, time.monotonic() + RETRY_SECONDS)
            self._engine.set_last_error(error.detail)
            return
        self._failed = None
        _log.info("version loaded", version=version_id)

    def _swap(self, model: ServedModel) -> None:
        previous = self._engine.served
        self._engine.swap(model)
        if previous is not None and previous is not model:
            self._versions.keep(previous)

    def _named(self) -> int | None:
        with self._database.read() as session:
            return Aliases(session).active_version_id()


ActivatorDep = Annotated[Activator, provided(Activator)]
