"""Which version answers a request."""

from __future__ import annotations

from dataclasses import dataclass

from app.http.deadlines import until
from app.models.cache import VersionCache
from app.serving.engine import Engine
from app.serving.model import ServedModel
from app.serving.routing import is_in_share
from contract.versions import ACTIVE_ALIAS, CANARY_ALIAS


@dataclass(frozen=True)
class VersionChooser:
    """Chooses the version that answers.

    Attributes:
        engine: Serves the active version and the canary.
        versions: Finds or loads a version that a request names.
        canary_share: Share of the requests that the canary answers.
    """

    engine: Engine
    versions: VersionCache
    canary_share: float

    async def choose(
        self, version: int | str | None, key: str | None, deadline: float | None
    ) -> tuple[ServedModel, str | None]:
        """Return who answers, and by the name of which alias.

        Args:
            version: That the request names, by id or by an alias.
            key: Who asks, where the canary may answer; None: it may not.
            deadline: As for `classify`; a version that is not in memory has to be loaded.

        Returns:
            A version, and the alias, None if it was named by its id.
        """
        if version is not None:
            async with until(deadline, lambda: f"version {version} was loaded"):
                return await self.versions.get(version), version if isinstance(version, str) else None
        served, canary = self.engine.require_served(), self.engine.secondary(CANARY_ALIAS)
        if key is not None and canary is not None and is_in_share(key, self.canary_share):
            return canary, CANARY_ALIAS
        return served, ACTIVE_ALIAS
