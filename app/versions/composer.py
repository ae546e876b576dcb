"""Versions from existing task vectors: mix, check, compute the probe, register. Nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import structlog
import torch
from sqlalchemy.orm import Session

from app.http.dependencies import provided
from app.http.errors import BaseNotLoadedError
from app.versions.fair_lock import Turns
from contract.environment import Environment
from contract.evaluation import Evaluation
from contract.lineage import Lineage
from contract.routing import RoutingMode
from paint_core.errors import NonFiniteWeightsError
from paint_core.evaluation import probe_features
from paint_core.models import BaseModel
from paint_core.runtime.provenance import describe_environment
from paint_core.weights import fingerprint
from pipeline.heads import answers_fingerprint, load_heads, require_heads_fit
from pipeline.towers import mix_tower
from registry.blobs import BlobStore
from registry.composition import same_mix
from registry.database import Database
from registry.errors import RequestRefusedError
from registry.versions import TermSpec, Versions

MAX_TERMS = 64
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Draft:
    """A version that is not registered yet.

    Attributes:
        name: Display name.
        base_fingerprint: Base of all its task vectors.
        terms: What is added to the base's image tower, each task vector and profile once.
        lineage: What it is made from.
        patch_id: The patch that it is another mix of, if any.
        parents: Versions whose terms it takes.
        tags: Search tags.
        evaluation: Known scores.
        routing: Which weights answer which labels.
    """

    name: str
    base_fingerprint: str
    terms: tuple[TermSpec, ...]
    lineage: Lineage
    patch_id: str | None = None
    parents: frozenset[int] = frozenset()
    tags: frozenset[str] = frozenset()
    evaluation: Evaluation | None = None
    routing: RoutingMode = "none"


@dataclass(frozen=True)
class Made:
    """A version, and whether it is new."""

    version_id: int
    is_new: bool


@dataclass(frozen=True)
class _Mixed:
    """What is stored of the mixed weights: enough to recognise them."""

    probe: list[list[float]]
    weights_fingerprint: str
    environment: Environment


class Composer:
    """Creates versions, one at a time, because each needs memory for one more image tower."""

    def __init__(self, database: Database, blobs: BlobStore, bases: Mapping[str, BaseModel]) -> None:
        self._database = database
        self._blobs = blobs
        self._bases = bases
        self.turns = Turns()

    def make(self, draft: Draft, owner: str | None = None) -> Made:
        """Return the registered version of a draft, with a probe for its activation.

        If the draft's patch already has a version of this mix, that one is returned.
        """
        with self.turns.take(owner):
            self._refuse_wrong_number_of_terms(draft)
            known = self._find(draft)
            if known is not None:
                return Made(known, is_new=False)
            made = Made(self._register(draft, self._mix(draft), owner), is_new=True)
            _log.info("version composed", version=made.version_id, terms=len(draft.terms), patch=draft.patch_id)
            return made

    def _register(self, draft: Draft, mixed: _Mixed, owner: str | None) -> int:
        with self._database.write() as session:
            versions = Versions(session)
            versions.hold_for_mix(draft.terms, draft.parents, draft.patch_id)
            if draft.routing != "none" and not versions.names_of(draft.terms):
                raise RequestRefusedError(
                    "no_patched_names",
                    "It is not known which names these terms were trained on.",
                    "Leave `routing` out, or patch again with this release.",
                )
            row = versions.register(
                name=draft.name,
                base_fingerprint=draft.base_fingerprint,
                terms=draft.terms,
                probe=mixed.probe,
                lineage=draft.lineage.model_copy(update={"environment": mixed.environment}),
                patch_id=draft.patch_id,
                owner=owner,
                parents=draft.parents,
                weights_fingerprint=mixed.weights_fingerprint,
                evaluation=draft.evaluation,
                routing=draft.routing,
            )
            versions.relabel(row.id, tags=draft.tags)
            return row.id

    def _refuse_wrong_number_of_terms(self, draft: Draft) -> None:
        if len(draft.terms) > MAX_TERMS:
            raise RequestRefusedError(
                "too_many_terms",
                f"The version would have {len(draft.terms)} terms.",
                f"Use at most {MAX_TERMS} terms.",
            )
        if not draft.terms:
            with self._database.read() as session:
                bare = Versions(session).base_version(draft.base_fingerprint)
            advice = (
                f"Version {bare.id} is the base; activate it instead." if bare else "Use a coefficient other than 0."
            )
            raise RequestRefusedError("nothing_to_add", "The version would have no terms.", advice)

    def _find(self, draft: Draft) -> int | None:
        if draft.patch_id is None:
            return None
        with self._database.read() as session:
            return _version_of_mix(session, draft.patch_id, draft.terms, draft.routing)

    def _mix(self, draft: Draft) -> _Mixed:
        base = self._bases.get(draft.base_fingerprint)
        if base is None:
            raise BaseNotLoadedError(draft.base_fingerprint)
        visual = mix_tower(base, draft.terms, self._blobs)
        weights = fingerprint(visual.state_dict())
        require_heads_fit(load_heads(base, draft.terms, self._blobs), weights)
        features = probe_features(visual, base)
        if not bool(torch.isfinite(features).all()):
            raise NonFiniteWeightsError("the features are not finite: use smaller coefficients")
        environment = Environment(**describe_environment(base.device))
        return _Mixed(features.tolist(), answers_fingerprint(weights, draft.terms), environment)


def _version_of_mix(session: Session, patch_id: str, terms: tuple[TermSpec, ...], routing: RoutingMode) -> int | None:
    versions = Versions(session)
    routed = [row.id for row in versions.of_patch(patch_id) if row.routing == routing]
    same = (version_id for version_id in routed if same_mix(versions.terms(version_id), terms))
    return next(same, None)


ComposerDep = Annotated[Composer, provided(Composer)]
