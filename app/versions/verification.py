"""Verification of a version: every hash is recomputed, and the weights are mixed again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from app.http.dependencies import BlobsDep, DatabaseDep, built
from app.models.bases import BasesDep
from app.models.dependencies import EngineDep
from app.models.throttle import Throttle
from app.versions.exports import ExportsDep
from app.versions.upkeep_schemas import Verification, VersionCheck
from pipeline.verification import check_version, is_unchanged, read_version


@dataclass(frozen=True)
class Verifier:
    """Verifies versions, one at a time."""

    database: DatabaseDep
    blobs: BlobsDep
    bases: BasesDep
    exports: ExportsDep
    engine: EngineDep

    def verify(self, version_id: int, owner: str | None = None) -> Verification:
        """Return checks of the base, the task vectors, the weights and the probe; the version may be in the trash."""
        with self.database.read() as session:
            stored = read_version(session, version_id)
        base = self.bases.get(stored.row.base_fingerprint)
        with self.exports.turns.take(owner):
            checks = check_version(stored, base, self.blobs, Throttle(lambda: self.engine.is_busy))
        return Verification(
            version=version_id,
            matches=is_unchanged(checks),
            checks=[VersionCheck(**asdict(check)) for check in checks],
        )


VerifierDep = Annotated[Verifier, built(Verifier)]
