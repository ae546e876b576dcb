"""Routes of patches."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.access.callers import CallerDep
from app.access.policies import Stores, needs
from app.http.dependencies import DatabaseDep
from app.http.idempotency import REPLAYED, IdempotencyKey
from app.http.paging import Cursor, Filters, Limit, Reference, Statuses, UsedDataset
from app.http.problems import problem_responses
from app.patches import service
from app.patches.checking import PatchCheckerDep
from app.patches.curves import CurvesDep, Kind
from app.patches.interpolants import InterpolantsDep
from app.patches.schemas import ChangedImages, Patch, PatchCheck, PatchCurve, PatchList, PatchStarted, Reselected
from app.versions.composer import ComposerDep
from contract.access import Scope
from contract.bodies import Id, Renaming
from contract.instant import ExtendRequest, ForgetRequest
from contract.patch_request import PatchRequest
from contract.versions import Profile, ReselectRequest
from registry.owners import Owned

PatchId = Annotated[Id, Path(description="Id of the patch, such as `pt_…`")]
Alpha = Annotated[float | None, Query(ge=0, le=3, description="The alpha. Default: the chosen one")]
FromAlpha = Annotated[float, Query(alias="from", ge=0, le=3, description="The alpha before. Default: 0, the base")]
ToAlpha = Annotated[float | None, Query(alias="to", ge=0, le=3, description="The alpha after. Default: the chosen one")]
PathProfile = Annotated[
    Profile | None, Query(description="How alpha varies with depth, if several were tried. Default: the chosen one")
]
Task = Annotated[Id, Query(description="Id of a data set that is a task of the patch, to improve or supported")]
ChangeKind = Annotated[
    Kind | None,
    Query(description="`lost` or `won`: only images that lose or win the correct answer. Default: every other answer"),
]
MaxImages = Annotated[int, Query(ge=1, le=1000, description="Maximum number of images")]
router = APIRouter(prefix="/v1/patches", tags=["patches"])


@router.post(
    "",
    status_code=202,
    responses=problem_responses(404, 409, 429),
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.WRITE, stores=Stores.COUNTED)],
)
def start_patch(
    intake: service.PatchIntakeDep,
    caller: CallerDep,
    response: Response,
    body: PatchRequest,
    idempotency_key: IdempotencyKey = None,
) -> PatchStarted:
    """Start a patch: improve the model on `tasks` without losing accuracy on `supported`.

    If the request is repeated with the same `Idempotency-Key`, nothing is started and the existing patch is returned.
    `activate` other than `never` and priority `high` require the scope `admin`.
    """
    if body.activate != "never" or body.priority == "high":
        caller.require(Scope.ADMIN)
    return _answer(response, *intake.start(body, idempotency_key, caller.owner))


@router.post("/check", responses=problem_responses(404, 409), dependencies=[needs(Scope.WRITE)])
def check_patch(checker: PatchCheckerDep, body: PatchRequest) -> PatchCheck:
    """Check a request for a patch without starting it: what it resolves to, how long it takes, what it can certify.

    A request that could not be started is rejected as by `POST /v1/patches`, except for the owner's quota of jobs.
    """
    return checker.check(body)


@router.get("", responses=problem_responses(), dependencies=[needs(Scope.READ)])
def list_patches(
    database: DatabaseDep,
    filters: Filters,
    limit: Limit = 100,
    cursor: Cursor = None,
    status: Statuses = None,
    dataset: UsedDataset = None,
    reference: Reference = None,
) -> PatchList:
    """List patches, newest first."""
    return service.list_patches(database, limit, cursor, status or (), reference, dataset, filters)


@router.get(
    "/{patch_id}", responses=problem_responses(404), response_model_exclude_unset=True, dependencies=[needs(Scope.READ)]
)
def get_patch(database: DatabaseDep, patch_id: PatchId) -> Patch:
    """Return a patch: its request, its job and, when finished, its report and version."""
    return service.get_patch(database, patch_id)


@router.get(
    "/{patch_id}/curve",
    responses=problem_responses(404, 409),
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.READ)],
)
def get_curve(curves: CurvesDep, patch_id: PatchId, alpha: Alpha = None, profile: PathProfile = None) -> PatchCurve:
    """Return the validation scores of every task at any alpha of a finished patch, without running the model.

    409 `no_interpolant`: the patch has no stored features, because it was made with folds or by an earlier release.
    """
    return curves.point(patch_id, alpha, profile)


@router.get("/{patch_id}/changes", responses=problem_responses(404, 409), dependencies=[needs(Scope.READ)])
def list_changes(
    curves: CurvesDep,
    patch_id: PatchId,
    task: Task,
    before: FromAlpha = 0.0,
    after: ToAlpha = None,
    kind: ChangeKind = None,
    profile: PathProfile = None,
    limit: MaxImages = 100,
    cursor: Cursor = None,
) -> ChangedImages:
    """List the validation images of a task whose answer differs between two alphas, without running the model.

    409 `no_interpolant`: the patch has no stored features, because it was made with folds or by an earlier release.
    """
    return curves.changes(patch_id, task, (before, after), profile, kind, limit, cursor)


@router.post(
    "/{patch_id}/reselect",
    status_code=201,
    responses={200: {"model": Reselected, "description": "The version already exists"}, **problem_responses(404, 409)},
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.WRITE, own=Owned.PATCH, stores=Stores.UNCOUNTED)],
)
def reselect(
    database: DatabaseDep,
    interpolants: InterpolantsDep,
    composer: ComposerDep,
    caller: CallerDep,
    response: Response,
    patch_id: PatchId,
    body: ReselectRequest,
) -> Reselected:
    """Create a version with another alpha from a finished patch, by rule or by value, without training."""
    reselected = service.reselect(database, interpolants, composer, patch_id, body, caller.owner)
    response.headers["Location"] = f"/v1/versions/{reselected.version.id}"
    if not reselected.is_new:
        response.status_code = 200
    return reselected


@router.post(
    "/{patch_id}/extend",
    status_code=202,
    responses=problem_responses(404, 409, 429),
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.WRITE, stores=Stores.COUNTED)],
)
def extend_patch(
    intake: service.PatchIntakeDep,
    caller: CallerDep,
    response: Response,
    patch_id: PatchId,
    body: ExtendRequest,
    idempotency_key: IdempotencyKey = None,
) -> PatchStarted:
    """Start an instant patch that continues another one with more images or classes, in closed form.

    The images of the continued patch are not needed: its head term holds their features or statistics. Its data sets
    that still exist take part in the choice of alpha. The result is a new patch with a new version.
    """
    return _answer(response, *intake.extend(patch_id, body, idempotency_key, caller.owner))


@router.post(
    "/{patch_id}/forget",
    status_code=202,
    responses=problem_responses(404, 409, 429),
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.WRITE, stores=Stores.COUNTED)],
)
def forget_classes(
    intake: service.PatchIntakeDep,
    caller: CallerDep,
    response: Response,
    patch_id: PatchId,
    body: ForgetRequest,
    idempotency_key: IdempotencyKey = None,
) -> PatchStarted:
    """Start an instant patch that continues another one without some classes, in closed form.

    The new version holds nothing of the images of these classes. To erase them, delete the earlier patch and its
    versions, too.
    """
    return _answer(response, *intake.forget(patch_id, body, idempotency_key, caller.owner))


def _answer(response: Response, started: PatchStarted, is_new: bool) -> PatchStarted:
    response.headers["Location"] = f"/v1/jobs/{started.job.id}"
    if not is_new:
        response.headers.update(REPLAYED)
    return started


@router.patch(
    "/{patch_id}",
    responses=problem_responses(404),
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.WRITE, own=Owned.PATCH)],
)
def rename_patch(database: DatabaseDep, patch_id: PatchId, body: Renaming) -> Patch:
    """Change the name of a patch. The names of its versions stay."""
    return service.rename_patch(database, patch_id, body.name)


@router.delete(
    "/{patch_id}",
    status_code=204,
    responses=problem_responses(404, 409),
    dependencies=[needs(Scope.WRITE, own=Owned.PATCH)],
)
def delete_patch(database: DatabaseDep, patch_id: PatchId) -> None:
    """Delete a patch with its report and its jobs, immediately and permanently.

    Rejected while its job is unfinished, and with `patch_in_use` while it has versions, including those in the trash.
    Unreferenced blobs are deleted by the next `POST /v1/gc`, or by the service within an hour.
    """
    service.delete_patch(database, patch_id)
