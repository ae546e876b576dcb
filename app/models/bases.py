"""The base models of an installation: loaded at the start, registered, each with a version that is the bare base."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import structlog
import torch

from app.http.dependencies import provided
from contract.environment import Environment
from contract.lineage import Lineage, LineageBase
from contract.versions import ACTIVE_ALIAS
from paint_core.errors import PaintCoreError
from paint_core.evaluation import probe_features
from paint_core.models import BaseModel, load_base
from paint_core.runtime.provenance import describe_environment
from paint_core.weights import fingerprint
from registry.aliases import Aliases
from registry.database import Database
from registry.errors import ConfigurationError, NotFoundError
from registry.tables import VersionRow
from registry.versions import Versions

_log = structlog.get_logger(__name__)


def load_bases(refs: tuple[str, ...], device: torch.device) -> dict[str, BaseModel]:
    """Return the base models by fingerprint, in the order of `refs`; `ConfigurationError` if one cannot be loaded."""
    bases = {}
    for ref in refs:
        try:
            base = load_base(ref, device=device)
        except (PaintCoreError, OSError) as error:
            raise ConfigurationError(f"PAINTBOX_BASES: {ref}: {error}.", "Correct it and restart.") from error
        bases[base.fingerprint] = base
        _log.info("base loaded", ref=ref, fingerprint=base.fingerprint, mapped=base.is_mapped)
    return bases


def register_bases(database: Database, bases: Mapping[str, BaseModel]) -> None:
    """Register each base and its bare version. If `active` names nothing, it gets the version of the first base."""
    probes = {fingerprint: probe_features(base.visual, base).tolist() for fingerprint, base in bases.items()}
    with database.write_alone() as session:  # API processes may start together
        versions, aliases = Versions(session), Aliases(session)
        bare = [_register(versions, base, probes[fingerprint]) for fingerprint, base in bases.items()]
        if aliases.active_version_id() is None:
            aliases.move(ACTIVE_ALIAS, bare[0].id, actor="paintbox", reason="first start")


def _register(versions: Versions, base: BaseModel, probe: list[list[float]]) -> VersionRow:
    _refuse_changed(versions, base)
    versions.ensure_base(
        ref=base.ref, fingerprint=base.fingerprint, embed_dim=base.embed_dim, image_size=base.image_size
    )
    registered = versions.base_version(base.fingerprint)
    if registered is not None:
        return registered
    return versions.register(
        name=base.ref,
        base_fingerprint=base.fingerprint,
        terms=[],
        probe=probe,
        lineage=Lineage(
            base=LineageBase(ref=base.ref, fingerprint=base.fingerprint),
            environment=Environment(**describe_environment(base.device)),
        ),
        weights_fingerprint=fingerprint(base.visual.state_dict()),
    )


def _refuse_changed(versions: Versions, base: BaseModel) -> None:
    try:
        known = versions.base_by_ref(base.ref)
    except NotFoundError:
        return
    if known.fingerprint != base.fingerprint:
        raise ConfigurationError(
            f"PAINTBOX_BASES: the weights of {base.ref} have changed since it was registered "
            f"({known.fingerprint[:12]}… then, {base.fingerprint[:12]}… now).",
            "Restore the old weights, use another reference for the new ones, or use another data directory.",
        )


Bases = Mapping[str, BaseModel]
LoadBases = Callable[[tuple[str, ...], torch.device], Bases]
BasesDep = Annotated[Bases, provided(Bases)]
