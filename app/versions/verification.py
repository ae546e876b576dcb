"""Verification of a version: every hash is recomputed, and the weights are mixed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from app.http.dependencies import BlobsDep, DatabaseDep, built
from app.models.bases import BasesDep
from app.models.dependencies import EngineDep
from app.models.throttle import Throttle
from app.versions.exports import ExportsDep
from app.versions.upkeep_schemas import Verification, VersionCheck
from paint_core.errors import PaintCoreError
from paint_core.evaluation import check_probe, probe_features
from paint_core.models import BaseModel, base_fingerprint
from paint_core.weights import fingerprint
from pipeline.heads import answers_fingerprint
from pipeline.towers import mix_tower
from registry.errors import BlobCorruptError, BlobMissingError
from registry.tables import VersionRow
from registry.versions import TermSpec, Versions

_MIX = "the mix"


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
            versions = Versions(session)
            row, terms = versions.get(version_id), versions.terms(version_id)
            ref = versions.base(row.base_fingerprint).ref
        base = self.bases.get(row.base_fingerprint)
        with self.exports.turns.take(owner):
            parts = [_check_base(ref, row.base_fingerprint, base)]
            parts += [self._check_vector(sha) for sha in dict.fromkeys(term.task_vector_sha256 for term in terms)]
            if base is not None and all(part.matches for part in parts):
                mixed = self._check_mix(row, terms, base)
            else:
                mixed = [_check(what, _MIX, None, "not mixed: see the checks above") for what in ("weights", "probe")]
        probe = mixed[-1]
        matches = all(check.matches is not False for check in (*parts, *mixed)) and probe.matches is True
        return Verification(version=version_id, matches=matches, checks=[*parts, *mixed])

    def _check_vector(self, sha256: str) -> VersionCheck:
        try:
            self.blobs.fetch(sha256)
        except BlobCorruptError as error:
            return _compare("task_vector", sha256, sha256, error.actual)
        except BlobMissingError:
            return _check("task_vector", sha256, False, "the blob is missing: restore it from a backup", sha256)
        return _compare("task_vector", sha256, sha256, sha256)

    def _check_mix(self, row: VersionRow, terms: Sequence[TermSpec], base: BaseModel) -> list[VersionCheck]:
        try:
            visual = mix_tower(base, terms, self.blobs, Throttle(lambda: self.engine.has_pending))
        except PaintCoreError as error:
            return [_check(what, _MIX, False, str(error)) for what in ("weights", "probe")]
        actual = answers_fingerprint(fingerprint(visual.state_dict()), terms)
        if row.weights_fingerprint is None:
            detail = "registered by an older release, without a fingerprint of the weights"
            weights = _check("weights", _MIX, None, detail, None, actual)
        else:
            weights = _compare("weights", _MIX, row.weights_fingerprint, actual)
        return [weights, _check_probe(row, probe_features(visual, base))]


def _check_base(ref: str, expected: str, base: BaseModel | None) -> VersionCheck:
    if base is None:
        return _check("base", ref, None, "not loaded in this process: add it to PAINTBOX_BASES and restart", expected)
    return _compare("base", ref, expected, base_fingerprint(base.model, base.preprocess))


def _check_probe(row: VersionRow, features: Tensor) -> VersionCheck:
    try:
        check_probe(features, torch.tensor(row.probe))
    except PaintCoreError as error:
        return _check("probe", _MIX, False, str(error))
    return _check("probe", _MIX, True, "the features of the probe images are unchanged")


def _compare(what: str, name: str, expected: str, actual: str) -> VersionCheck:
    matches = expected == actual
    return _check(what, name, matches, "equal" if matches else "differs: restore it from a backup", expected, actual)


def _check(
    what: str, name: str, matches: bool | None, detail: str, expected: str | None = None, actual: str | None = None
) -> VersionCheck:
    return VersionCheck(what=what, name=name, matches=matches, expected=expected, actual=actual, detail=detail)


VerifierDep = Annotated[Verifier, built(Verifier)]
