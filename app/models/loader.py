"""From a version's id to a model that can serve: read what it is made of, mix it, warm it up, check it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog
import torch
from torch import Tensor

from app.http.errors import VersionNotLoadedError
from app.models.served_model import Routing, ServedModel
from app.models.throttle import Throttle
from app.runtime.memory import is_out_of_memory
from contract.routing import NameAccuracy
from paint_core.errors import PaintCoreError
from paint_core.evaluation import check_probe, probe_features, probe_images
from paint_core.models import BaseModel
from pipeline.heads import load_heads
from pipeline.towers import mix_tower
from registry.blobs import BlobStore
from registry.database import Database
from registry.errors import BlobCorruptError, BlobMissingError, RegistryError
from registry.versions import TermSpec, Versions

_EXACT_MIN_COSINE = 0.999
_ROUNDED_MIN_COSINE = 0.99  # bfloat16 has 8 significant bits: similar features, not the same digits
_log = structlog.get_logger(__name__)


class _Recipe(NamedTuple):
    """What a version is made of.

    `probe` is the features of the probe images when it was registered, [N, D], and `names` the patched names, if the
    version routes by labels.
    """

    base_fingerprint: str
    terms: tuple[TermSpec, ...]
    probe: Tensor
    names: Mapping[str, NameAccuracy] | None


class VersionLoader:
    """Builds versions; `VersionPool` keeps them.

    Args:
        database: Holds versions.
        blobs: Holds task vectors.
        bases: Loaded base models by fingerprint.
        has_pending: Whether requests need the CPU cores; then loading uses little of them.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        bases: Mapping[str, BaseModel],
        has_pending: Callable[[], bool] = bool,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._bases = bases
        self._has_pending = has_pending

    def load(self, version_id: int) -> ServedModel:
        """Return the version, mixed, warm, and verified to give the features that it gave when it was registered.

        Whatever goes wrong is a `VersionNotLoadedError`.
        """
        recipe = self._read(version_id)
        base = self._bases.get(recipe.base_fingerprint)
        if base is None:
            raise VersionNotLoadedError(version_id, _no_base(recipe.base_fingerprint))
        try:
            return self._build(version_id, recipe, base)
        except Exception as error:  # whatever a bad version does, it must not stop the others
            _log.exception("version not loaded", version=version_id)
            no_room = is_out_of_memory(error)
            raise VersionNotLoadedError(version_id, _cause(error, no_room), no_room=no_room) from error

    def find_damage(self, version_id: int) -> str | None:
        """Return why the version cannot be built: base not loaded, task vector missing or damaged; else None."""
        recipe = self._read(version_id)
        if recipe.base_fingerprint not in self._bases:
            return _no_base(recipe.base_fingerprint)
        try:
            for sha256 in {term.task_vector_sha256 for term in recipe.terms}:
                self._blobs.fetch(sha256)
        except (BlobMissingError, BlobCorruptError) as error:
            return error.detail
        return None

    def _read(self, version_id: int) -> _Recipe:
        with self._database.read() as session:
            versions = Versions(session)
            row = versions.get_not_trashed(version_id)
            probe = torch.tensor(row.probe, dtype=torch.float32)
            names = {name: NameAccuracy.of_stored(each) for name, each in (row.patched_names or {}).items()}
            chosen = names if row.routing == "by_labels" else None
            return _Recipe(row.base_fingerprint, tuple(versions.terms(version_id)), probe, chosen)

    def _build(self, version_id: int, recipe: _Recipe, base: BaseModel) -> ServedModel:
        yield_cpu = Throttle(self._has_pending)
        visual = mix_tower(base, recipe.terms, self._blobs, yield_cpu)
        heads = load_heads(base, recipe.terms, self._blobs, torch.device("cpu"))
        yield_cpu()
        routing = None if recipe.names is None else Routing(recipe.names, _unpatched(version_id, base))
        model = ServedModel(version_id, base, visual, routing, heads if heads.terms else None)
        is_exact = model.runner.is_exact
        if not is_exact:
            check_probe(probe_features(visual, base), recipe.probe)
        yield_cpu()
        # Check what will run. Tracing or capturing happens here, so that no request waits for it.
        features = model.encode(probe_images(base.image_size))
        check_probe(features, recipe.probe, _EXACT_MIN_COSINE if is_exact else _ROUNDED_MIN_COSINE)
        yield_cpu()
        return model


def _unpatched(version_id: int, base: BaseModel) -> ServedModel:
    """Return the base as a model that answers for a version, warm."""
    model = ServedModel(version_id, base, base.visual)
    model.encode(probe_images(base.image_size))
    return model


def _no_base(fingerprint: str) -> str:
    return f"its base {fingerprint[:12]}… is not loaded; add it to PAINTBOX_BASES and restart."


def _cause(error: Exception, no_room: bool) -> str:
    if no_room:
        return "there is not enough memory for another image tower."
    if isinstance(error, RegistryError):
        return error.detail
    if isinstance(error, PaintCoreError):
        return f"{error}."
    return f"{type(error).__name__} while loading it; see the log of the API."
