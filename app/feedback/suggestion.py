"""The patch to ask for when corrections have become a data set."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.orm import Session

from contract.datasets import DatasetKind, DatasetState
from contract.finetune_options import AnchorOptions
from contract.patch_request import MAX_TASKS, PatchOptions
from registry.aliases import Aliases
from registry.datasets import Datasets
from registry.errors import NotFoundError
from registry.patches import Patches
from registry.tables import DatasetRow
from registry.versions import Versions

_MOST_POOLS_READ = 100


def suggest_patch(session: Session, corrections: DatasetRow) -> PatchOptions:
    """Return the request of a patch on a data set of corrections.

    A patch starts from a base model. So that the next version keeps what the one in `active` has learned, the tasks of
    its patch are trained on again together with the corrections; its supported tasks and its anchors are taken over.
    Without anchors, the newest pool is used, or drawn images if there is none and something is to be supported. With
    supported tasks the rule is `certified`, the default.
    """
    active = _patch_of_active(session)
    tasks, supported, base, anchors = [corrections.id], [], None, None
    if active is not None:
        tasks += list(_usable(session, active.tasks, "train", "validation", "test"))[: MAX_TASKS - 1]
        supported = list(_usable(session, active.supported, "validation", "test"))
        base, anchors = active.base, _anchors_of(session, active, supported)
    if anchors is None:
        pool = _newest_pool(session)
        if pool is not None or supported:
            anchors = AnchorOptions(dataset=pool, drawn=pool is None)
    return PatchOptions(
        name=f"{corrections.name[:170]}: patch",
        base=base,
        method="single" if len(tasks) == 1 else "joint",
        tasks=tuple(tasks),
        supported=tuple(supported),
        anchors=anchors,
    )


def _patch_of_active(session: Session) -> PatchOptions | None:
    """Return the request of the patch that made the active version, with its base; None: no patch did."""
    version_id = Aliases(session).active_version_id()
    if version_id is None:
        return None
    version = Versions(session).get(version_id)
    if version.patch_id is None:
        return None
    base = Versions(session).base(version.base_fingerprint)
    request = PatchOptions.of_stored(Patches(session).get(version.patch_id).request)
    return request.model_copy(update={"base": base.ref})


def _usable(session: Session, identifiers: Iterable[str], *splits: str) -> Iterable[str]:
    """Yield those of the data sets that still exist and have images in all of the splits."""
    for identifier in identifiers:
        try:
            row = Datasets(session).get(identifier)
        except NotFoundError:
            continue
        if row.state == DatasetState.READY and all((row.shards or {}).get(split) for split in splits):
            yield identifier


def _anchors_of(session: Session, active: PatchOptions, supported: list[str]) -> AnchorOptions | None:
    """Return the anchors of the active version's patch, as far as their images still exist."""
    if active.anchors is None:
        return None
    pools = () if active.anchors.dataset is None else _usable(session, [active.anchors.dataset], "train")
    dataset = next(iter(pools), None)
    has_train = active.anchors.supported and any(_usable(session, supported, "train"))
    if dataset is None and not has_train and not active.anchors.drawn:
        return None
    return active.anchors.model_copy(update={"dataset": dataset, "supported": has_train})


def _newest_pool(session: Session) -> str | None:
    ready = Datasets(session).newest(_MOST_POOLS_READ, states=(DatasetState.READY,))
    return next((row.id for row in ready if row.kind == DatasetKind.POOL), None)
