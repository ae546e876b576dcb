"""From a version's id to a model that can serve: read what it is made of, mix it, warm it up, check it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog
import torch
from torch import Tensor, nn

from app.http.errors import VersionNotLoadedError
from app.models.runner import measure_speedup
from app.models.served_model import Routing, ServedModel
from app.models.throttle import Throttle
from app.runtime.memory import is_out_of_memory
from contract.precision import PrecisionCheck
from contract.routing import NameAccuracy
from paint_core.config.precision import RunPrecision, has_bf16, resolve_precision
from paint_core.errors import PaintCoreError, ProbeError
from paint_core.evaluation import UsedPrecision, check_probe, probe_features, probe_images
from paint_core.models import BaseModel
from pipeline.heads import Heads, load_heads
from pipeline.towers import mix_tower
from registry.blobs import BlobStore
from registry.database import Database
from registry.errors import BlobCorruptError, BlobMissingError, RegistryError
from registry.versions import TermSpec, Versions

_EXACT_MIN_COSINE = 0.999
_LEAST_SPEEDUP = 1.1  # below, a copy of the weights is not worth its memory
_ROUNDED_MIN_COSINE = 0.99  # bfloat16 has 8 significant bits: similar features, not the same digits
_log = structlog.get_logger(__name__)


class _Recipe(NamedTuple):
    """What a version is made of.

    `probe` is the features of the probe images when it was registered, [N, D]; `names` the patched names, if the
    version routes by labels; `checks` what lower precisions change of weights that a job has made, None for others.
    """

    base_fingerprint: str
    terms: tuple[TermSpec, ...]
    probe: Tensor
    names: Mapping[str, NameAccuracy] | None
    checks: tuple[PrecisionCheck, ...] | None


class VersionLoader:
    """Builds versions; `VersionPool` keeps them.

    Args:
        database: Holds versions.
        blobs: Holds task vectors.
        bases: Loaded base models by fingerprint.
        has_pending: Whether requests need the CPU cores; then loading uses little of them.
        precision: To serve in, if the version gives the features there that it gave when it was registered.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        bases: Mapping[str, BaseModel],
        has_pending: Callable[[], bool] = bool,
        precision: RunPrecision = "auto",
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._bases = bases
        self._has_pending = has_pending
        self._precision = precision
        self._pay: dict[str, bool] = {}

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
            found = tuple(PrecisionCheck.of_stored(each) for each in row.precision_checks or ())
            terms = tuple(versions.terms(version_id))
            is_trained = row.job_id is not None and not all(term.is_head for term in terms)
            return _Recipe(row.base_fingerprint, terms, probe, chosen, found if is_trained else None)

    def _build(self, version_id: int, recipe: _Recipe, base: BaseModel) -> ServedModel:
        yield_cpu = Throttle(self._has_pending)
        visual = mix_tower(base, recipe.terms, self._blobs, yield_cpu)
        loaded = load_heads(base, recipe.terms, self._blobs, torch.device("cpu"))
        yield_cpu()
        heads = loaded if loaded.terms else None
        used = self._choose(recipe, base)
        if used.precision != "fp32":
            check_probe(probe_features(visual, base), recipe.probe)
            yield_cpu()
            try:
                return self._warm(version_id, recipe, base, visual, heads, used, yield_cpu)
            except (ProbeError, RuntimeError) as error:  # a tower that cannot be cast raises the latter
                if is_out_of_memory(error):
                    raise
                used = UsedPrecision("fp32", f"{used.precision} gives other features: {str(error)[:200]}")
                _log.info("version served in fp32", version=version_id, cause=used.reason)
        return self._warm(version_id, recipe, base, visual, heads, used, yield_cpu)

    def _choose(self, recipe: _Recipe, base: BaseModel) -> UsedPrecision:
        """Return the precision to try: a lower one only for a version whose answers it was shown to keep.

        Of weights that no job has made, the probe images are all that there is to show it.
        """
        if resolve_precision(self._precision, base.device) == "fp32":
            return UsedPrecision("fp32")
        if not has_bf16(base.device):
            return UsedPrecision("fp32", "this processor has no bf16 instructions")
        check = next((each for each in recipe.checks or () if each.precision == "bf16"), None)
        if check is not None and not check.accepted:
            return UsedPrecision("fp32", f"bf16 changes its answers: {check.reason}")
        if recipe.checks is not None and check is None and base.device.type == "cpu":
            return UsedPrecision("fp32", "its answers in bf16 have not been compared with those in fp32")
        if self._precision == "auto" and not self._pays(base):
            return UsedPrecision("fp32", "bf16 is not faster on this processor")
        return UsedPrecision("bf16")

    def _pays(self, base: BaseModel) -> bool:
        """Return whether bf16 is faster for this base here; measured once. A GPU that has it is."""
        if base.device.type == "cuda":
            return True
        if base.fingerprint not in self._pay:
            try:
                self._pay[base.fingerprint] = measure_speedup(base, "bf16") >= _LEAST_SPEEDUP
            except RuntimeError:  # the tower has a layer that does not compute in it
                self._pay[base.fingerprint] = False
        return self._pay[base.fingerprint]

    def _warm(
        self,
        version_id: int,
        recipe: _Recipe,
        base: BaseModel,
        visual: nn.Module,
        heads: Heads | None,
        used: UsedPrecision,
        yield_cpu: Callable[[], object],
    ) -> ServedModel:
        """Return the version once what will run gives the features of the probe images."""
        routing = None if recipe.names is None else Routing(recipe.names, _unpatched(version_id, base, used))
        model = ServedModel(version_id, base, visual, routing, heads, used)
        # Tracing or capturing happens here, so that no request waits for it.
        features = model.encode(probe_images(base.image_size))
        on_gpu = base.device.type == "cuda" and not model.runner.is_exact
        check_probe(features, recipe.probe, _ROUNDED_MIN_COSINE if on_gpu else _EXACT_MIN_COSINE)
        yield_cpu()
        return model


def _unpatched(version_id: int, base: BaseModel, used: UsedPrecision) -> ServedModel:
    """Return the base as a model that answers for a version, warm."""
    model = ServedModel(version_id, base, base.visual, precision=used)
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
