"""Routes of versions and of the aliases that name them."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, TypeVar

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import Field
from starlette.responses import StreamingResponse

from app.access.callers import CallerDep
from app.access.policies import Stores, needs
from app.http.dependencies import BlobsDep, DatabaseDep, SettingsDep
from app.http.paging import Cursor, Filters, Limit, Reference, UsedDataset
from app.http.problems import problem_responses
from app.versions import aliases, service
from app.versions.approval_schemas import AliasApproval, AliasApprovalList, ApprovalDecision
from app.versions.approvals import ApprovalDeskDep
from app.versions.check_schemas import AliasCheck, AliasCheckRequest
from app.versions.compare_schemas import ComparedVersions
from app.versions.comparing import VersionComparerDep
from app.versions.composer import ComposerDep
from app.versions.exporting import TAR_MEDIA_TYPE, ExporterDep, ExportResponse
from app.versions.guard import AliasGuardDep
from app.versions.schemas import (
    Alias,
    AliasHistory,
    AliasList,
    AliasMove,
    Rollback,
    RolledBackAlias,
    Version,
    VersionLabels,
    VersionList,
)
from app.versions.upkeep_schemas import Collected, Verification
from app.versions.verification import VerifierDep
from contract.access import Scope
from contract.bodies import MAX_VERSION_ID, AliasName, Id, Reason, VersionId
from contract.versions import Tag, VersionRequest
from paint_core.exporting import ExportFormat
from registry.aliases import ANY_REVISION
from registry.owners import Owned

router = APIRouter(prefix="/v1", tags=["versions"])

ApprovalId = Annotated[Id, Path(description="Id of the request")]
_AliasT = TypeVar("_AliasT", bound=Alias)
IfMatch = Annotated[str | None, Header(max_length=1000, description="`ETag` of the alias when it was read")]
_TAG = re.compile(r'(?:^|,)\s*"([1-9][0-9]{0,17})"\s*(?=,|$)', re.ASCII)  # a weak tag matches nothing

WithTag = Annotated[
    list[Tag],
    Field(fail_fast=True),
    Query(max_length=16, description="Filter by tag; if repeated, versions with all of the tags"),
]
NamedBy = Annotated[AliasName | None, Query(description="Filter by an alias that names it now")]
MadeFrom = Annotated[
    int | None, Query(ge=1, le=MAX_VERSION_ID, description="Filter by a version that they were made from")
]
Trashed = Annotated[bool, Query(description="List versions in the trash")]
WantedFormat = Annotated[
    ExportFormat,
    Query(
        alias="format",
        description="`open_clip`; `transformers`: a CLIPModel or SiglipModel of Hugging Face, for towers that it has; "
        "`onnx`: both towers for ONNX Runtime; `openvino`: both towers for OpenVINO",
    ),
]
DryRun = Annotated[bool, Query(description="Only report what would be deleted")]


@router.get(
    "/versions", responses=problem_responses(), response_model_exclude_unset=True, dependencies=[needs(Scope.READ)]
)
def list_versions(
    database: DatabaseDep,
    filters: Filters,
    limit: Limit = 100,
    cursor: Cursor = None,
    tag: WithTag = [],  # noqa: B006 - FastAPI copies it
    trashed: Trashed = False,
    alias: NamedBy = None,
    dataset: UsedDataset = None,
    parent: MadeFrom = None,
    reference: Reference = None,
) -> VersionList:
    """List versions, newest first. `ref` matches the beginning of the name, `dataset` what their patch used."""
    return service.list_versions(
        database, limit, cursor, tag, trashed, reference, alias=alias, dataset=dataset, parent=parent, filters=filters
    )


@router.post(
    "/versions",
    status_code=201,
    responses=problem_responses(404, 409),
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.WRITE, stores=Stores.UNCOUNTED)],
)
def make_version(
    database: DatabaseDep, composer: ComposerDep, caller: CallerDep, response: Response, body: VersionRequest
) -> Version:
    """Compose a version from task vectors, patches and versions, or remove a patch from one, without training."""
    version = service.make_version(database, composer, body, caller.owner)
    response.headers["Location"] = f"/v1/versions/{version.id}"
    return version


@router.get(
    "/versions/{version_id}",
    responses=problem_responses(404),
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.READ)],
)
def get_version(database: DatabaseDep, version_id: VersionId) -> Version:
    """Return a version: its base, its terms and their origin."""
    return service.get_version(database, version_id)


@router.get(
    "/versions/{version_id}/compare",
    responses=problem_responses(404),
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.READ)],
)
def compare_versions(
    comparer: VersionComparerDep,
    version_id: VersionId,
    other: Annotated[VersionId, Query(alias="with", description="Number of the other version, the one after")],
) -> ComparedVersions:
    """Compare two versions: their terms, and their answers to the images that both were evaluated on.

    Nothing is evaluated: `uncompared` lists what only one of them was evaluated on.
    """
    return comparer.compare(version_id, other)


@router.patch(
    "/versions/{version_id}",
    responses=problem_responses(404),
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.WRITE, own=Owned.VERSION)],
)
def relabel_version(database: DatabaseDep, version_id: VersionId, body: VersionLabels) -> Version:
    """Change the name, the tags or the serving precision of a version. Its base and terms are immutable."""
    return service.relabel_version(database, version_id, body)


@router.delete(
    "/versions/{version_id}",
    responses=problem_responses(404, 409),
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.WRITE, own=Owned.VERSION)],
)
def delete_version(database: DatabaseDep, version_id: VersionId) -> Version:
    """Move a version to the trash. It can be restored until it is purged.

    Rejected while an alias points to it, and for the unpatched base.
    """
    return service.trash_version(database, version_id)


@router.post(
    "/versions/{version_id}/restore",
    responses=problem_responses(404),
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.WRITE, own=Owned.VERSION)],
)
def restore_version(database: DatabaseDep, version_id: VersionId) -> Version:
    """Restore a version from the trash."""
    return service.restore_version(database, version_id)


@router.post("/versions/{version_id}/verify", responses=problem_responses(404, 409), dependencies=[needs(Scope.WRITE)])
def verify(verifier: VerifierDep, caller: CallerDep, version_id: VersionId) -> Verification:
    """Recompute the hashes of the base and task vectors of a version, mix its weights again, and compare.

    A difference is a result, not an error: see `matches`.
    """
    return verifier.verify(version_id, caller.owner)


@router.get(
    "/versions/{version_id}/export",
    response_class=StreamingResponse,
    responses={200: {"content": {TAR_MEDIA_TYPE: {}}}, **problem_responses(404, 409, 429)},
    dependencies=[needs(Scope.READ, stores=Stores.UNCOUNTED)],
)
def export(
    exporter: ExporterDep, caller: CallerDep, version_id: VersionId, chosen: WantedFormat = "open_clip"
) -> ExportResponse:
    """Export a version as a tar of a folder that another package loads, with a model card and, if evaluated, results.

    Before a format other than `open_clip` is sent, its package opens it and computes the features of the images and
    texts that identify the version; if they differ, the answer is an error.
    """
    return ExportResponse(exporter.export(version_id, caller.owner, chosen))


@router.post("/gc", responses=problem_responses(409), dependencies=[needs(Scope.ADMIN)])
def collect_garbage(
    database: DatabaseDep, blobs: BlobsDep, settings: SettingsDep, dry_run: DryRun = False
) -> Collected:
    """Purge expired versions from the trash, and delete unreferenced blobs.

    Versions with an alias, or from which another version was created, are kept. Deletes task vectors that no version
    uses any more, and the blobs of deleted data sets and patches, of failed uploads and of patches that failed or were
    cancelled long ago, except those stored within the last hour. The service does this automatically every hour.
    """
    return service.empty_trash(database, blobs, settings.trash_retention_seconds, dry_run)


@router.get("/aliases", responses=problem_responses(), dependencies=[needs(Scope.READ)])
def list_aliases(database: DatabaseDep) -> AliasList:
    """List all aliases by name; `active` always exists."""
    return aliases.list_aliases(database)


@router.get("/aliases/{alias}", responses=problem_responses(404), dependencies=[needs(Scope.READ)])
def get_alias(database: DatabaseDep, response: Response, alias: AliasName) -> Alias:
    """Return an alias and its version. The version of `active` is served. `ETag` changes with every move."""
    return _tagged(response, aliases.get_alias(database, alias))


@router.get("/aliases/{alias}/history", responses=problem_responses(404), dependencies=[needs(Scope.READ)])
def list_alias_history(
    database: DatabaseDep, alias: AliasName, limit: Limit = 100, cursor: Cursor = None
) -> AliasHistory:
    """List the moves of an alias, newest first, with time, versions, key and reason."""
    return aliases.list_history(database, alias, limit, cursor)


@router.put(
    "/aliases/{alias}",
    response_model=Alias,
    responses={202: {"model": AliasApproval, "description": "Waits for approval"}, **problem_responses(404, 409, 412)},
    dependencies=[needs(Scope.ADMIN)],
)
def move_alias(
    mover: aliases.AliasMoverDep,
    caller: CallerDep,
    response: Response,
    alias: AliasName,
    body: AliasMove,
    if_match: IfMatch = None,
) -> Alias | Response:
    """Move an alias to a version. Creates the alias if it does not exist.

    For `active`, returns when the version is loaded, verified and serving; if that fails, the previous version keeps
    serving. `active` and `canary` do not move to a version of which a supported task drops by more than its limit, or
    has a limit and was not measured; `force` with a reason overrides that. `canary` and `shadow` do not move to a
    version that cannot be loaded. With `If-Match`, rejected if the alias was moved since the tag was read, or does not
    exist. With `PAINTBOX_APPROVALS`, `active` and `canary` move when another admin approves it: the answer is 202.
    """
    moved = mover.move(alias, body, _revisions(if_match), caller)
    if isinstance(moved, AliasApproval):
        return Response(moved.model_dump_json(), 202, media_type="application/json")
    return _tagged(response, moved)


@router.get("/aliases/{alias}/approvals", responses=problem_responses(), dependencies=[needs(Scope.READ)])
def list_alias_approvals(
    desk: ApprovalDeskDep, alias: AliasName, limit: Limit = 100, cursor: Cursor = None
) -> AliasApprovalList:
    """List requested moves of an alias, newest first, with the decisions on them."""
    return desk.list(alias, limit, cursor)


@router.post(
    "/aliases/{alias}/approvals/{approval_id}/approve",
    responses=problem_responses(404, 409, 412),
    dependencies=[needs(Scope.ADMIN)],
)
def approve_alias_move(
    mover: aliases.AliasMoverDep,
    caller: CallerDep,
    response: Response,
    alias: AliasName,
    approval_id: ApprovalId,
    body: ApprovalDecision | None = None,
) -> Alias:
    """Move an alias as another admin requested. The key must not be the one of the request.

    The move is checked again. Rejected if the alias was moved since the request, or the request is older than a day.
    """
    reason = body.reason if body else ""
    return _tagged(response, mover.approve(alias, approval_id, reason, caller))


@router.post(
    "/aliases/{alias}/approvals/{approval_id}/reject",
    responses=problem_responses(404, 409),
    dependencies=[needs(Scope.ADMIN)],
)
def reject_alias_move(
    desk: ApprovalDeskDep,
    caller: CallerDep,
    alias: AliasName,
    approval_id: ApprovalId,
    body: ApprovalDecision | None = None,
) -> AliasApproval:
    """Reject a requested move of an alias, or withdraw an own one."""
    return desk.reject(alias, approval_id, body.reason if body else "", caller)


@router.post("/aliases/{alias}/check", responses=problem_responses(404, 409), dependencies=[needs(Scope.WRITE)])
async def check_alias_move(guard: AliasGuardDep, alias: AliasName, body: AliasCheckRequest) -> AliasCheck:
    """Check whether an alias could be moved to a version, without moving it.

    Loads and verifies the version, and compares the drop of each supported task with its limit. A move that would be
    rejected is a result, not an error: see `accepted` and `reasons`.
    """
    return await guard.check(alias, body.version)


@router.delete(
    "/aliases/{alias}", status_code=204, responses=problem_responses(404, 409, 412), dependencies=[needs(Scope.ADMIN)]
)
def delete_alias(
    database: DatabaseDep,
    settings: SettingsDep,
    caller: CallerDep,
    alias: AliasName,
    reason: Reason = "",
    if_match: IfMatch = None,
) -> None:
    """Delete an alias; its history is kept. `active` cannot be deleted."""
    aliases.delete_alias(database, alias, reason, _revisions(if_match), caller.actor, settings.webhook_url)


@router.post("/aliases/{alias}/rollback", responses=problem_responses(404, 409, 412), dependencies=[needs(Scope.ADMIN)])
def roll_back_alias(
    mover: aliases.AliasMoverDep,
    caller: CallerDep,
    response: Response,
    alias: AliasName,
    body: Rollback | None = None,
    if_match: IfMatch = None,
) -> RolledBackAlias:
    """Undo the last move of an alias. Another rollback undoes the move before it.

    A version that was rolled back from is not restored again until the alias has been moved to it by its number.
    With `If-Match`, rejected if the alias was moved since the tag was read, for example by another rollback.
    """
    reason = body.reason if body else ""
    return _tagged(response, mover.roll_back(alias, reason, _revisions(if_match), caller.actor))


def _tagged(response: Response, found: tuple[_AliasT, int]) -> _AliasT:
    alias, revision = found
    response.headers["ETag"] = f'"{revision}"'
    return alias


def _revisions(if_match: str | None) -> Collection[int] | None:
    """The revisions that a header allows; None for any, or none. Tags that we never gave allow nothing.

    RFC 9110, 13.1.1: `*` allows whatever is there, so there must be something.
    """
    if if_match is None:
        return None
    return ANY_REVISION if if_match.strip() == "*" else frozenset(int(tag) for tag in _TAG.findall(if_match))
