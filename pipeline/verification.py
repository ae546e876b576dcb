"""Verification of a version: every hash is recomputed, and the weights are mixed again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from sqlalchemy.orm import Session
from torch import Tensor

from paint_core.errors import PaintCoreError
from paint_core.evaluation import check_probe, probe_features
from paint_core.models import BaseModel, base_fingerprint
from paint_core.weights import fingerprint
from pipeline.heads import answers_fingerprint
from pipeline.towers import mix_tower
from registry.blobs import BlobStore
from registry.errors import BlobCorruptError, BlobMissingError
from registry.tables import VersionRow
from registry.versions import TermSpec, Versions

_MIX = "the mix"


@dataclass(frozen=True)
class ItemCheck:
    """One thing that was compared.

    Attributes:
        what: `base`, `task_vector`, `weights` or `probe`.
        name: Name of the item.
        matches: Whether they are equal; None: not comparable.
        detail: Explanation of the result.
        expected: Registered value, if any.
        actual: Current value, if any.
    """

    what: str
    name: str
    matches: bool | None
    detail: str
    expected: str | None = None
    actual: str | None = None


@dataclass(frozen=True)
class StoredVersion:
    """What the database says of a version.

    Attributes:
        base_ref: Reference of its base.
    """

    row: VersionRow
    terms: Sequence[TermSpec]
    base_ref: str


def read_version(session: Session, version_id: int) -> StoredVersion:
    """Return what the database says of a version, which may be in the trash; `NotFoundError`: there is none."""
    versions = Versions(session)
    row = versions.get(version_id)
    return StoredVersion(row, versions.terms(version_id), versions.base(row.base_fingerprint).ref)


def check_version(
    stored: StoredVersion, base: BaseModel | None, blobs: BlobStore, yield_cpu: Callable[[], object] = int
) -> list[ItemCheck]:
    """Return checks of the base, the task vectors, the weights and, last, the probe.

    Args:
        base: The version's base; None: it is not loaded.
        yield_cpu: Called every few milliseconds of work; may wait.
    """
    row = stored.row
    checks = [_check_base(stored.base_ref, row.base_fingerprint, base)]
    checks += [_check_vector(blobs, sha) for sha in dict.fromkeys(term.task_vector_sha256 for term in stored.terms)]
    if base is not None and all(check.matches for check in checks):
        return checks + _check_mix(row, stored.terms, base, blobs, yield_cpu)
    return checks + [ItemCheck(what, _MIX, None, "not mixed: see the checks above") for what in ("weights", "probe")]


def is_unchanged(checks: Sequence[ItemCheck]) -> bool:
    """Return whether nothing differs, and the probe, which is the last check, is equal."""
    return all(check.matches is not False for check in checks) and checks[-1].matches is True


def _check_base(ref: str, expected: str, base: BaseModel | None) -> ItemCheck:
    if base is None:
        return ItemCheck(
            "base", ref, None, "not loaded in this process: add it to PAINTBOX_BASES and restart", expected
        )
    return _compare("base", ref, expected, base_fingerprint(base.model, base.preprocess))


def _check_vector(blobs: BlobStore, sha256: str) -> ItemCheck:
    try:
        blobs.fetch(sha256)
    except BlobCorruptError as error:
        return _compare("task_vector", sha256, sha256, error.actual)
    except BlobMissingError:
        return ItemCheck("task_vector", sha256, False, "the blob is missing: restore it from a backup", sha256)
    return _compare("task_vector", sha256, sha256, sha256)


def _check_mix(
    row: VersionRow,
    terms: Sequence[TermSpec],
    base: BaseModel,
    blobs: BlobStore,
    yield_cpu: Callable[[], object],
) -> list[ItemCheck]:
    try:
        visual = mix_tower(base, terms, blobs, yield_cpu)
    except PaintCoreError as error:
        return [ItemCheck(what, _MIX, False, str(error)) for what in ("weights", "probe")]
    actual = answers_fingerprint(fingerprint(visual.state_dict()), terms)
    if row.weights_fingerprint is None:
        detail = "registered by an older release, without a fingerprint of the weights"
        weights = ItemCheck("weights", _MIX, None, detail, None, actual)
    else:
        weights = _compare("weights", _MIX, row.weights_fingerprint, actual)
    return [weights, _check_probe(row, probe_features(visual, base))]


def _check_probe(row: VersionRow, features: Tensor) -> ItemCheck:
    try:
        check_probe(features, torch.tensor(row.probe))
    except PaintCoreError as error:
        return ItemCheck("probe", _MIX, False, str(error))
    return ItemCheck("probe", _MIX, True, "the features of the probe images are unchanged")


def _compare(what: str, name: str, expected: str, actual: str) -> ItemCheck:
    matches = expected == actual
    return ItemCheck(what, name, matches, "equal" if matches else "differs: restore it from a backup", expected, actual)
