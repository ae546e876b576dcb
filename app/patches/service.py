"""Asking for patches, and for another alpha of one that is done."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.http.errors import BaseNotLoadedError
from app.http.services import Services
from app.jobs.quota import check_quota
from app.jobs.schemas import Job
from app.jobs.webhooks.targets import check_target
from app.patches.prediction import predict_point
from app.patches.reselection import Selection, Stage, evaluate, finished_report, last_stage, select
from app.patches.schemas import Patch, PatchBrief, PatchList, PatchStarted, Reselected
from app.versions.composer import Draft
from app.versions.service import get_version
from contract.jobs import JobStatus
from contract.lineage import Lineage, LineageBase
from contract.patch_request import PatchOptions, PatchRequest
from contract.versions import ReselectRequest
from pipeline.plans import plan_patch
from registry.idempotency import IdempotencyKeys
from registry.jobs import Jobs
from registry.patches import Patches
from registry.removal import Removal
from registry.tables import BaseModelRow, PatchRow
from registry.versions import Versions

_log = structlog.get_logger(__name__)


def list_patches(
    services: Services,
    limit: int,
    cursor: str | None,
    statuses: Collection[JobStatus] = (),
    reference: str | None = None,
) -> PatchList:
    """Return a page of patches, newest first; no statuses and no reference mean all."""
    with services.database.read() as session:
        page = Patches(session).newest(limit, cursor, statuses=statuses, reference=reference)
        versions = Versions(session)
        jobs = Jobs(session).by_ids([row.job_id for row in page])
        items = [PatchBrief.of(row, versions.base(row.base_fingerprint), jobs[row.job_id]) for row in page]
        return PatchList(items=items, next_cursor=page.next_cursor)


def get_patch(services: Services, patch_id: str) -> Patch:
    """Return the patch."""
    with services.database.read() as session:
        return _resource(session, Patches(session).get(patch_id))


def delete_patch(services: Services, patch_id: str) -> None:
    """Delete the patch.

    Args:
        services: The application's services.
        patch_id: The patch.

    Raises:
        NotFoundError: There is no such patch.
        ConflictError: Its job has not ended, or it has versions.
    """
    with services.database.write() as session:
        Removal(session).delete_patch(patch_id)
    _log.info("patch deleted", patch=patch_id)


def start_patch(
    services: Services, request: PatchRequest, key: str | None = None, owner: str | None = None
) -> tuple[PatchStarted, bool]:
    """Return the patch with its job, and whether it is new; what cannot start is refused at once.

    Args:
        services: The application's services.
        request: What is asked for.
        key: The client's `Idempotency-Key`; the same request with the same key gets the same patch.
        owner: Who asks, as their key names them.

    Returns:
        The patch, and False if an earlier request with this key made it.

    Raises:
        NotFoundError: A data set or the base is unknown.
        RequestRefusedError: It cannot be started, or the key belongs to another request.
        BaseNotLoadedError: It is to answer here if it is accepted, and could not.
        JobQuotaError: Whoever asks has as many unfinished jobs as they may.
    """
    try:
        return _start(services, request, key, owner)
    except IntegrityError:
        if key is None:
            raise
        # The same request came twice at once; the other one is through now.
        return _start(services, request, key, owner)


def _start(services: Services, request: PatchRequest, key: str | None, owner: str | None) -> tuple[PatchStarted, bool]:
    if request.webhook_url is not None:
        check_target(request.webhook_url, services.settings.webhook_hosts)
    digest = hashlib.sha256(request.model_dump_json().encode()).hexdigest()
    with services.database.write() as session:
        keys = IdempotencyKeys(session)
        known = keys.find(owner, key, digest) if key else None
        if known is not None:
            row = Patches(session).get(known)
            return PatchStarted(patch=_resource(session, row), job=Job.of(Jobs(session).get(row.job_id))), False
        check_quota(session, owner, services.settings.max_unfinished_jobs)
        row = Patches(session).submit(request, default_base=services.settings.bases[0], owner=owner)
        if key:
            keys.keep(owner, key, digest, row.id)
        base = services.bases.get(row.base_fingerprint)
        if base is not None:  # another API of the installation may have loaded it instead
            plan_patch(base, request)
        elif request.activate != "never":
            raise BaseNotLoadedError(row.base_fingerprint)
        jobs = Jobs(session)
        to_ring = jobs.to_ring(row.job_id)
        for job_id in to_ring:
            jobs.mark_rung(job_id)
        started = PatchStarted(patch=_resource(session, row), job=Job.of(jobs.get(row.job_id)))
    _log.info("patch queued", patch=started.patch.id, job_id=started.job.id)
    for job_id in to_ring:
        services.doorbell.ring(job_id)
    return started, True


def reselect(services: Services, patch_id: str, request: ReselectRequest, owner: str | None = None) -> Reselected:
    """Return the version at another alpha; nothing is trained, and the same mix is not registered twice."""
    with services.database.read() as session:
        patch = Patches(session).get(patch_id)
        base = Versions(session).base(patch.base_fingerprint)
        report = finished_report(patch)
    stage = last_stage(patch.id, report)
    selection = select(stage, request)
    interpolant = report.interpolants.get(selection.profile)
    point = selection.validation
    if interpolant is not None and (point is None or point.alpha != selection.alpha):
        point = predict_point(services.blobs, interpolant, stage, selection.alpha) or point
    draft = _draft(patch, base, stage, selection, request)
    if point is not None and point.alpha == selection.alpha:
        limit = request.max_supported_drop
        if limit is None:
            limit = PatchOptions.of_stored(patch.request).alpha.max_supported_drop
        draft = replace(draft, evaluation=evaluate(report, stage, point, limit))
    made = services.composer.make(draft, owner)
    return Reselected(
        version=get_version(services, made.version_id),
        is_new=made.is_new,
        alpha=selection.alpha,
        profile=selection.profile,
        rule=request.rule,
        reason=selection.reason,
        validation=point,
    )


def _draft(patch: PatchRow, base: BaseModelRow, stage: Stage, selection: Selection, request: ReselectRequest) -> Draft:
    lineage = Lineage(
        base=LineageBase(ref=base.ref, fingerprint=base.fingerprint),
        made_by="reselect",
        patch=patch.id,
        request=request.model_dump(mode="json", exclude_none=True),
        alpha=selection.alpha,
        profile=selection.profile,
        reason=selection.reason,
    )
    return Draft(
        name=request.name or f"{patch.name[:170]}, alpha {selection.alpha:g}",
        base_fingerprint=base.fingerprint,
        terms=stage.terms(selection.alpha, selection.profile),
        lineage=lineage,
        patch_id=patch.id,
        parents=frozenset() if patch.version_id is None else frozenset({patch.version_id}),
    )


def _resource(session: Session, row: PatchRow) -> Patch:
    return Patch.of(row, Versions(session).base(row.base_fingerprint), Jobs(session).get(row.job_id))
