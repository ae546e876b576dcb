"""From a version's id to a model that can serve: read what it is made of, mix it, warm it up, check it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import structlog
import torch
from pydantic import TypeAdapter
from torch import Tensor

from app.http.errors import VersionNotLoadedError
from app.models.precisions import PrecisionChooser
from app.models.served_model import Routing, ServedModel, ServedPrecision
from app.models.throttle import Throttle
from app.runtime.memory import is_out_of_memory
from contract.precision import PrecisionCheck
from contract.routing import NameAccuracy
from paint_core.config.precision import WantedPrecision
from paint_core.errors import PaintCoreError, ProbeError
from paint_core.evaluation import check_probe, probe_features, probe_images
from paint_core.models import BaseModel
from pipeline.heads import load_heads
from pipeline.programs import ProgramStore
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

    `probe` is the features of the probe images when it was registered, [N, D]; `names` the patched names, if the
    version routes by labels; `checks` what lower precisions change of weights that a job has made, None for others;
    `wanted` the precision that was chosen for it, if any.
    """

    base_fingerprint: str
    terms: tuple[TermSpec, ...]
    probe: Tensor
    names: Mapping[str, NameAccuracy] | None
    checks: tuple[PrecisionCheck, ...] | None
    wanted: WantedPrecision | None


class VersionLoader:
    """Builds versions; `VersionPool` keeps them.

    Args:
        database: Holds versions.
        blobs: Holds task vectors.
        bases: Loaded base models by fingerprint.
        is_busy: Whether requests need the CPU cores; then loading uses little of them.
        precision: To serve in, if the version gives the features there that it gave when it was registered.
        programs: Of the bases' towers; None: PyTorch runs them.
        num_cores: CPU cores that a long forward pass may take.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        bases: Mapping[str, BaseModel],
        is_busy: Callable[[], bool] = bool,
        precision: WantedPrecision = "auto",
        programs: ProgramStore | None = None,
        num_cores: int = 1,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._bases = bases
        self._is_busy = is_busy
        self._programs = programs
        self._low = ThreadPoolExecutor(1, "paintbox-low", initializer=_lower_priority)
        self._num_cores = num_cores
        self._precisions = PrecisionChooser(precision)

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
            checks = found if is_trained else None
            return _Recipe(row.base_fingerprint, terms, probe, chosen, checks, as_wanted(row.serving_precision))

    def _build(self, version_id: int, recipe: _Recipe, base: BaseModel) -> ServedModel:
        yield_cpu = Throttle(self._is_busy)
        visual = mix_tower(base, recipe.terms, self._blobs, yield_cpu)
        loaded = load_heads(base, recipe.terms, self._blobs, torch.device("cpu"))
        yield_cpu()
        program = None if self._programs is None else self._programs.find(base)
        model = ServedModel(
            version_id,
            base,
            visual,
            heads=loaded if loaded.terms else None,
            program=program,
            num_cores=self._num_cores,
            wanted=recipe.wanted,
        )
        choice = self._precisions.choose(base, program, recipe.checks, recipe.wanted)
        refused = dict(choice.refused)
        if choice.candidates:
            check_probe(probe_features(visual, base), recipe.probe)
            yield_cpu()
        for precision in choice.candidates:
            try:
                return self._warm(replace(model, precision=ServedPrecision(precision)), recipe, yield_cpu)
            except (ProbeError, RuntimeError) as error:  # a tower that does not compute in it raises the latter
                if is_out_of_memory(error):
                    raise
                refused[precision] = f"{precision} gives other features: {str(error)[:200]}"
                _log.info("version not served in a lower precision", version=version_id, cause=refused[precision])
        exact = replace(model, precision=ServedPrecision("fp32", "; ".join(refused.values())))
        try:
            return self._warm(exact, recipe, yield_cpu)
        except RuntimeError as error:
            if program is None or is_out_of_memory(error):
                raise
            _log.warning("version runs in PyTorch", version=version_id, cause=str(error)[:200])
            return self._warm(replace(exact, program=None), recipe, yield_cpu)

    def _warm(self, model: ServedModel, recipe: _Recipe, yield_cpu: Callable[[], object]) -> ServedModel:
        """Return the version once what will run gives the features of the probe images."""
        if recipe.names is not None:
            model = replace(model, routing=Routing(recipe.names, _unpatched(model)))
        # Converting or capturing happens here, so that no request waits for it. A session opens at one go.
        probe = partial(model.encode, probe_images(model.base.image_size))
        is_low = model.program is not None and self._is_busy()
        features = self._low.submit(probe).result() if is_low else probe()
        on_gpu = model.base.device.type == "cuda" and not model.runner.is_exact
        check_probe(features, recipe.probe, _ROUNDED_MIN_COSINE if on_gpu else _EXACT_MIN_COSINE)
        model.runner.widen()  # not with the least priority, which its threads would keep
        yield_cpu()
        return model


def _lower_priority() -> None:
    """Give the cores to other threads first; nobody may raise the priority again."""
    with suppress(OSError, AttributeError):  # a system without priorities of threads
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def as_wanted(stored: str | None) -> WantedPrecision | None:
    """Return a stored precision as one that may be chosen."""
    return None if stored is None else TypeAdapter(WantedPrecision).validate_python(stored)


def _unpatched(model: ServedModel) -> ServedModel:
    """Return the base as a model that answers for a version, warm."""
    unpatched = replace(model, visual=model.base.visual, heads=None, routing=None)
    unpatched.encode(probe_images(model.base.image_size))
    unpatched.runner.widen()
    return unpatched


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
