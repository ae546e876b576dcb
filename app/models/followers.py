"""The versions beside the one that answers: `canary`, which answers a share of the requests, and `shadow`."""

from __future__ import annotations

import time
from typing import Annotated

import structlog

from app.http.dependencies import provided
from app.http.errors import VersionNotLoadedError
from app.models.activation import RETRY_SECONDS
from app.models.cache import VersionCache
from app.serving.engine import Engine
from contract.versions import CANARY_ALIAS, SHADOW_ALIAS
from registry.aliases import Aliases
from registry.database import Database
from registry.errors import RegistryError

FOLLOWED_ALIASES = (CANARY_ALIAS, SHADOW_ALIAS)
_log = structlog.get_logger(__name__)


class Followers:
    """Keeps what the aliases `canary` and `shadow` name in memory.

    When an alias moves, the old version is evicted before the new one is loaded, so at most three versions are
    held; meanwhile, and while it cannot be loaded, `active` answers all requests.

    Args:
        database: Holds the aliases.
        versions: Has what they name, or loads it.
        engine: Holds what is loaded.
    """

    def __init__(self, database: Database, versions: VersionCache, engine: Engine) -> None:
        self._database = database
        self._versions = versions
        self._engine = engine
        self._errors: dict[str, tuple[int, float, str]] = {}

    def follow(self) -> None:
        """Load what the aliases name, and forget what they no longer name."""
        named = self.named()
        for alias in FOLLOWED_ALIASES:
            self._follow(alias, named.get(alias))

    def named(self) -> dict[str, int]:
        """Return the version that each of these aliases names, if the alias exists."""
        with self._database.read() as session:
            return {row.name: row.version_id for row in Aliases(session).all() if row.name in FOLLOWED_ALIASES}

    def last_error(self, alias: str) -> str | None:
        """Return why the version could not be loaded."""
        known = self._errors.get(alias)
        return known[2] if known else None

    def _follow(self, alias: str, version_id: int | None) -> None:
        held, known = self._engine.secondary(alias), self._errors.get(alias)
        if (held.version_id if held else None) == version_id:
            self._errors.pop(alias, None)
            return
        if known and known[0] == version_id and time.monotonic() < known[1]:
            return
        self._engine.set_secondary(alias, None)
        self._errors.pop(alias, None)
        if version_id is None:
            return
        try:
            model = self._versions.obtain(version_id)
        except (VersionNotLoadedError, RegistryError) as error:
            self._errors[alias] = (version_id, time.monotonic() + RETRY_SECONDS, error.detail)
            return
        self._engine.set_secondary(alias, model)
        _log.info("version loaded", version=version_id, alias=alias)


FollowersDep = Annotated[Followers, provided(Followers)]
