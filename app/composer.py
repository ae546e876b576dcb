"""Making versions out of task vectors that are there already: mix, check, take the probe, register. No training."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
import torch
from sqlalchemy.orm import Session

from app.errors import CompositionInProgressError
from app.serving.model import mix_tower
from paint_core.errors import NonFiniteWeightsError
from paint_core.models import BaseModel
from paint_core.probe import probe_features
from registry.blobs import BlobStore
from registry.composition import same_mix
from registry.database import Database
from registry.errors import ConflictError, RequestRefusedError
from registry.versions import TermSpec, Versions

MAX_TERMS = 64
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Draft:
    """A version to be.

    Attributes:
        name: For people.
        base_fingerprint: Base of all its task vectors.
        terms: What is added to the base's image tower, each task vector and profile once.
        lineage: What it is made from.
        patch_id: The patch that it is another mix of, if it is.
    """

    name: str
    base_fingerprint: str
    terms: tuple[TermSpec, ...]
    lineage: dict[str, Any]
    patch_id: str | None = None


@dataclass(frozen=True)
class Made:
    """A version, and whether it was made just now."""

    version_id: int
    is_new: bool


class Composer:
    """Makes versions, one at a time: each needs room for one image tower beside those that serve.

    Args:
        database: Holds versions.
        blobs: Holds task vectors.
        bases: Loaded base models by fingerprint.
    """

    def __init__(self, database: Database, blobs: BlobStore, bases: Mapping[str, BaseModel]) -> None:
        self._database = database
        self._blobs = blobs
        self._bases = bases
        self._lock = threading.Lock()

    def make(self, draft: Draft, owner: str | None = None) -> Made:
        """Return the version of a draft; a patch that has a version of this mix already keeps that one.

        Args:
            draft: What to make.
            owner: Who asks, as their key names them.

        Returns:
            The version, registered with a probe that activation checks it against.

        Raises:
            RequestRefusedError: Nothing is added to the base, or too much.
            ConflictError: The base is not loaded in this process.
            CompositionInProgressError: Another version is being made.
            BlobMissingError: A task vector is gone.
            BlobCorruptError: A task vector's bytes have changed.
            WeightsError: A task vector does not fit the base, or the mix is not finite.
        """
        with self.busy():
            self._refuse_wrong_number_of_terms(draft)
            known = self._find(draft)
            if known is not None:
                return Made(known, is_new=False)
            probe = self._probe(draft)
            with self._database.write() as session:
                row = Versions(session).register(
                    name=draft.name,
                    base_fingerprint=draft.base_fingerprint,
                    terms=draft.terms,
                    probe=probe,
                    lineage=draft.lineage,
                    patch_id=draft.patch_id,
                    owner=owner,
                )
                made = Made(row.id, is_new=True)
            _log.info("version composed", version=made.version_id, terms=len(draft.terms), patch=draft.patch_id)
            return made

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Hold every other composition off while the context lasts.

        Yields:
            None: Versions are mixed only here.

        Raises:
            CompositionInProgressError: Another version is being made.
        """
        if not self._lock.acquire(blocking=False):
            raise CompositionInProgressError()
        try:
            yield
        finally:
            self._lock.release()

    def _refuse_wrong_number_of_terms(self, draft: Draft) -> None:
        if len(draft.terms) > MAX_TERMS:
            raise RequestRefusedError(
                "too_many_terms",
                f"The mix would have {len(draft.terms)} terms.",
                f"A version holds at most {MAX_TERMS}; leave some out.",
            )
        if not draft.terms:
            with self._database.read() as session:
                bare = Versions(session).base_version(draft.base_fingerprint)
            advice = f"Version {bare.id} is the base; activate that." if bare else "Name a coefficient other than 0."
            raise RequestRefusedError("nothing_to_add", "Nothing is left to add to the base.", advice)

    def _find(self, draft: Draft) -> int | None:
        if draft.patch_id is None:
            return None
        with self._database.read() as session:
            return _version_of_mix(session, draft.patch_id, draft.terms)

    def _probe(self, draft: Draft) -> list[list[float]]:
        base = self._bases.get(draft.base_fingerprint)
        if base is None:
            raise ConflictError(
                f"Base {draft.base_fingerprint[:12]}… is not loaded here.", "Name it in PAINTBOX_BASES and restart."
            )
        features = probe_features(mix_tower(base, draft.terms, self._blobs), base)
        if not bool(torch.isfinite(features).all()):
            raise NonFiniteWeightsError("the mix gives features that are no finite numbers: use smaller coefficients")
        probe: list[list[float]] = features.tolist()
        return probe


def _version_of_mix(session: Session, patch_id: str, terms: tuple[TermSpec, ...]) -> int | None:
    versions = Versions(session)
    same = (row.id for row in versions.of_patch(patch_id) if same_mix(versions.terms(row.id), terms))
    return next(same, None)
