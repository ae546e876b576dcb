"""Which version answers a request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from app.http.deadlines import until
from app.models.pool import VersionPool
from app.models.served_model import ServedModel
from contract.versions import ACTIVE_ALIAS, CANARY_ALIAS

_BITS = 64


@dataclass(frozen=True)
class VersionChooser:
    """Chooses the version that answers.

    Attributes:
        versions: Holds the active version and the canary, and finds or loads a version that a request names.
        canary_share: Share of the requests that the canary answers.
    """

    versions: VersionPool
    canary_share: float

    async def choose(
        self, version: int | str | None, key: str | None, deadline: float | None
    ) -> tuple[ServedModel, str | None]:
        """Return the version that answers, and the alias by which it was chosen.

        Args:
            version: The id or alias that the request names.
            key: The request key, if the canary may answer; None: it may not.
            deadline: As for `classify`; a version that is not in memory is loaded.

        Returns:
            The version, and the alias; None if it was named by its id.
        """
        if version is not None:
            async with until(deadline, lambda: f"version {version} was loaded"):
                return await self.versions.get(version), version if isinstance(version, str) else None
        active, canary = self.versions.require_active(), self.versions.serving(CANARY_ALIAS)
        if key is not None and canary is not None and is_in_share(key, self.canary_share):
            return canary, CANARY_ALIAS
        return active, ACTIVE_ALIAS


def is_in_share(key: str, share: float) -> bool:
    """Return whether a request key falls into a share of all keys.

    Args:
        key: Identifies who asks.
        share: In [0, 1]; a key that falls into a share falls into every larger one.

    Returns:
        The same for the same key, in every process.
    """
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=_BITS // 8, person=b"canary").digest()
    return int.from_bytes(digest) < share * (1 << _BITS)
