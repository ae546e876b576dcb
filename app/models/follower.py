"""What serves follows the aliases: load, verify, swap. If anything fails, the previous `active` version keeps serving.

An activation commits the alias before it swaps. A crash between the two is harmless: after a restart this process, and
within a second every other replica, loads what the alias names.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Annotated, Unpack

import structlog

from app.http.dependencies import provided
from app.http.errors import ActivationFailedError, ActivationInProgressError, VersionNotLoadedError
from app.models.pool import VersionPool
from contract.versions import ACTIVE_ALIAS, CANARY_ALIAS, SHADOW_ALIAS
from registry.aliases import Aliases, MoveFacts
from registry.database import Database
from registry.errors import RegistryError

_Named = tuple[int, str | None]
"""A version, and the precision that was chosen for it."""

RETRY_SECONDS = 30.0
_log = structlog.get_logger(__name__)


class AliasFollower:
    """Loads the versions that `active`, `canary` and `shadow` name, and moves `active`.

    The old canary or shadow leaves memory before its successor is loaded, so aliases need room for at most three
    versions. Meanwhile, and while it cannot be loaded, `active` answers all requests.

    Args:
        database: Holds the aliases.
        pool: Holds the versions.
    """

    def __init__(self, database: Database, pool: VersionPool) -> None:
        self._database = database
        self._pool = pool
        self._lock = threading.Lock()
        self._failed: dict[str, tuple[int, float]] = {}  # by alias: the version, and when to try it again

    def activate(self, version_id: int, **facts: Unpack[MoveFacts]) -> None:
        """Make the version active: it answers every request that starts after this returns.

        The alias must have one of the expected revisions before and after the version is loaded. If the version cannot
        be loaded or verified, nothing changes, and the error is `ActivationFailedError`.
        """
        with self.busy():
            with self._database.read() as session:
                Aliases(session).require_revision(ACTIVE_ALIAS, facts.get("expected"))
            try:
                model = self._pool.get_or_load(version_id)
            except VersionNotLoadedError as error:
                raise ActivationFailedError(version_id, error.cause) from error
            with self._database.write() as session:
                aliases = Aliases(session)
                if aliases.active_version_id() != version_id:
                    aliases.move(ACTIVE_ALIAS, version_id, **facts)
            self._pool.swap(ACTIVE_ALIAS, model)
            _log.info("version activated", version=version_id)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Keep `active` from being swapped elsewhere while the context lasts.

        Yields:
            None: No other activation runs.

        Raises:
            ActivationInProgressError: Another activation has not ended yet.
        """
        if not self._lock.acquire(blocking=False):
            raise ActivationInProgressError()
        try:
            yield
        finally:
            self._lock.release()

    def follow(self) -> None:
        """Serve what the aliases name. A version that cannot be loaded is recorded and tried again after a while."""
        named = self._named()
        if self._serves(ACTIVE_ALIAS) != named.get(ACTIVE_ALIAS):
            with suppress(ActivationInProgressError), self.busy():
                self._follow(ACTIVE_ALIAS, self._named().get(ACTIVE_ALIAS))  # it may just have been activated
        for alias in (CANARY_ALIAS, SHADOW_ALIAS):
            self._follow(alias, named.get(alias))

    def _follow(self, alias: str, named: _Named | None) -> None:
        if self._serves(alias) == named and self._pool.last_error(alias) is None:
            return
        version_id = None if named is None else named[0]
        failed_id, retry_at = self._failed.get(alias, (None, 0.0))
        if failed_id == version_id and time.monotonic() < retry_at:
            return
        self._failed.pop(alias, None)
        if alias != ACTIVE_ALIAS:
            self._pool.swap(alias, None)
        if version_id is None:
            return
        try:
            model = self._pool.get_or_load(version_id)
        except (VersionNotLoadedError, RegistryError) as error:
            self._failed[alias] = (version_id, time.monotonic() + RETRY_SECONDS)
            self._pool.set_last_error(alias, error.detail)
            return
        self._pool.swap(alias, model)
        _log.info("version loaded", version=version_id, alias=alias)

    def _serves(self, alias: str) -> _Named | None:
        model = self._pool.serving(alias)
        return (model.version_id, model.wanted) if model else None

    def _named(self) -> Mapping[str, _Named]:
        with self._database.read() as session:
            return Aliases(session).named_versions()


AliasFollowerDep = Annotated[AliasFollower, provided(AliasFollower)]
