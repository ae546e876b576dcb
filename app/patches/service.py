"""Asking for patches, and for another alpha of one that is done."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Annotated

import structlog
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.http.dependencies import DatabaseDep, SettingsDep, built
from app.http.errors import BaseNotLoadedError
from app.jobs.schemas import Job
from app.jobs.starting import JobStarterDep, Submitted
from app.jobs.unit_of_work import UnitOfWork
from app.models.bases import BasesDep
from app.patches.interpolants import Interpolants
from app.patches.prediction import predict_point
from app.patches.reselection import Selection, Stage, evaluate, finished_report, last_stage, limits_of, select
from app.patches.schemas import Patch, PatchBrief, PatchList, PatchStarted, Reselected
from app.versions.composer import Composer, Draft
from app.versions.service import get_version
from contract.instant import ExtendRequest, ForgetRequest
from contract.jobs import JobStatus
from contract.lineage import Lineage, LineageBase
from contract.patch_request import PatchOptions, PatchRequest
from contract.versions import ReselectRequest
from pipeline.plans import plan_patch
from registry.database import Database
from registry.datasets import Datasets
from registry.errors import RequestRefusedError
from registry.filters import ANY, ListFilters
from registry.jobs import Jobs
from registry.patches import Patches
from registry.removal import Removal
from registry.tables import BaseModelRow, PatchRow
from registry.versions import Versions

_ROLES = ("tasks", "supported", "transfer")
_log = structlog.get_logger(__name__)


def list_patches(
    database: Database,
    limit: int,
    cursor: str | None,
    statuses: Collection[JobStatus] = (),
    reference: str | None = None,
    dataset: str | None = None,
    filters: ListFilters = ANY,
) -> PatchList:
    """Return a page of patches, newest first."""
    with database.read() as session:
        page = Patches(session).newest(
            limit, cursor, statuses=statuses, reference=reference, dataset=dataset, filters=filters
        )
        versions = Versions(session)
        jobs = Jobs(session).by_ids([row.job_id for row in page])
        items = [PatchBrief.of(row, versions.base(row.base_fingerprint), jobs[row.job_id]) for row in page]
        return PatchList(items=items, next_cursor=page.next_cursor)


def get_patch(database: Database, patch_id: str) -> Patch:
    """Return the patch."""
    with database.read() as session:
        return _resource(session, Patches(session).get(patch_id))


def rename_patch(database: Database, patch_id: str, name: str) -> Patch:
    """Return the patch under another name."""
    with database.write() as session:
        return _resource(session, Patches(session).rename(patch_id, name))


def delete_patch(database: Database, patch_id: str) -> None:
    """Delete the patch."""
    with database.write() as session:
        Removal(session).delete_patch(patch_id)
    _log.info("patch deleted", patch=patch_id)


@dataclass(frozen=True)
class PatchIntake:
    """Accepts patch requests."""

    starter: JobStarterDep
    database: DatabaseDep
    bases: BasesDep
    settings: SettingsDep

    def start(
        self, request: PatchRequest, key: str | None = None, owner: str | None = None
    ) -> tuple[PatchStarted, bool]:
        """Return the patch with its job, and whether it is new; a request that cannot succeed is rejected at once.

        The arguments and further errors are those of `JobStarter.start`.

        Raises:
            NotFoundError: A data set or the base is unknown.
            RequestRefusedError: It cannot be started.
            BaseNotLoadedError: It is to be served if it is accepted, but its base is not loaded here.
        """

        def submit(unit: UnitOfWork) -> Submitted:
            row = unit.patches.submit(request, default_base=self.settings.bases[0], owner=owner)
            self._check_base(row.base_fingerprint, request)
            first = () if row.instant_patch_id is None else (unit.patches.get(row.instant_patch_id).job_id,)
            return Submitted(row.id, (*first, row.job_id))

        patch_id, is_new = self.starter.start(request, key, owner, submit)
        with self.database.read() as session:
            row = Patches(session).get(patch_id)
            started = PatchStarted(patch=_resource(session, row), job=Job.of(Jobs(session).get(row.job_id)))
        if is_new:
            _log.info("patch queued", patch=patch_id, job_id=started.job.id)
        return started, is_new

    def _check_base(self, fingerprint: str, request: PatchRequest) -> None:
        base = self.bases.get(fingerprint)
        if base is not None:  # another API of the installation may have loaded it instead
            plan_patch(base, request)
        elif request.activate != "never":
            raise BaseNotLoadedError(fingerprint)

    def extend(
        self, patch_id: str, request: ExtendRequest, key: str | None, owner: str | None
    ) -> tuple[PatchStarted, bool]:
        """Return a new patch that continues an instant one with more data sets; errors as for `start`."""
        return self.start(self._continued(patch_id, request.name, request.tasks, ()), key, owner)

    def forget(
        self, patch_id: str, request: ForgetRequest, key: str | None, owner: str | None
    ) -> tuple[PatchStarted, bool]:
        """Return a new patch that continues an instant one without some classes; errors as for `start`."""
        return self.start(self._continued(patch_id, request.name, (), request.classes), key, owner)

    def _continued(
        self, patch_id: str, name: str | None, added: tuple[str, ...], forget: tuple[str, ...]
    ) -> PatchRequest:
        """Return the request of a patch with its data sets that still exist, and those to add."""
        with self.database.read() as session:
            row, _ = Patches(session).require_head_term(patch_id)
            asked = PatchOptions.of_stored(row.request)
            known = Datasets(session).existing((*asked.tasks, *asked.supported, *asked.transfer))
            ref = Versions(session).base(row.base_fingerprint).ref
        kept = {role: [each for each in getattr(asked, role) if each in known and each not in added] for role in _ROLES}
        fields = asked.model_dump(mode="json", exclude_unset=True) | kept
        tasks = list(dict.fromkeys((*kept["tasks"], *added)))
        if not tasks:
            raise RequestRefusedError(
                "no_data_set_left",
                f"The data sets of patch {patch_id} have been deleted, so nothing can judge its successor.",
                "Extend it with a data set of the same classes at the same time.",
            )
        if not kept["supported"]:
            fields.pop("alpha", None)  # its limits are of supported tasks
        for option in ("finetune", "anchors", "store"):  # of a patch of method auto
            fields.pop(option, None)
        changed = {"name": name or row.name, "method": "instant", "base": ref, "tasks": tasks}
        changed |= {"extends": patch_id, "forget": forget}
        try:
            return PatchRequest.model_validate({**fields, **changed, "activate": "never"})
        except ValidationError as error:
            raise RequestRefusedError(
                "not_extendable",
                f"Patch {patch_id} cannot be continued with these data sets: {error.errors()[0]['msg'][:300]}.",
                "Start an instant patch with all of them: POST /v1/patches with method instant.",
            ) from error


PatchIntakeDep = Annotated[PatchIntake, built(PatchIntake)]


def reselect(
    database: Database,
    interpolants: Interpolants,
    composer: Composer,
    patch_id: str,
    request: ReselectRequest,
    owner: str | None = None,
) -> Reselected:
    """Return the version at another alpha; nothing is trained, and the same mix is not registered twice."""
    with database.read() as session:
        patch = Patches(session).get(patch_id)
        base = Versions(session).base(patch.base_fingerprint)
        report = finished_report(patch)
    stage = last_stage(patch.id, report)
    options = PatchOptions.of_stored(patch.request)
    selection = select(stage, request, options.alpha.metric)
    interpolant = report.interpolants.get(selection.profile)
    point = selection.validation
    if interpolant is not None and (point is None or point.alpha != selection.alpha):
        stored = interpolants.curve(interpolant)
        if stored is not None:
            tasks = stage.patching, stage.supported
            point = predict_point(stored, selection.alpha, *tasks, starts_at_base=not stage.fixed) or point
    draft = _draft(patch, base, stage, selection, request)
    if point is not None and point.alpha == selection.alpha:
        limits = limits_of(request, options)
        draft = replace(draft, evaluation=evaluate(report, stage, point, limits))
    made = composer.make(draft, owner)
    return Reselected(
        version=get_version(database, made.version_id),
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
        routing=PatchOptions.of_stored(patch.request).routing,
    )


def _resource(session: Session, row: PatchRow) -> Patch:
    return Patch.of(row, Versions(session).base(row.base_fingerprint), Jobs(session).get(row.job_id))
