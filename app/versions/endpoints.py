"""Routes of versions and of the alias that names the active one."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Header, Path, Response

from app.access.callers import CallerDep
from app.access.policies import needs
from app.paging import Cursor, Limit
from app.problems import problem_responses
from app.services import ServicesDep
from app.versions import service
from app.versions.schemas import (
    Alias,
    AliasHistory,
    AliasList,
    AliasMove,
    Rollback,
    Version,
    VersionList,
    VersionRequest,
)
from registry.contract import Scope

router = APIRouter(prefix="/v1", tags=["versions"])

AliasName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9._-]{0,63}$", description="Such as `active`, `canary`")]
IfMatch = Annotated[str | None, Header(max_length=1000, description="`ETag` of the alias as it was looked at")]
_TAG = re.compile(r'(?:^|,)\s*"([0-9]{1,18})"\s*(?=,|$)', re.ASCII)  # a weak tag matches nothing

VersionId = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("/versions", responses=problem_responses(), dependencies=[needs(Scope.READ)])
def list_versions(services: ServicesDep, limit: Limit = 100, cursor: Cursor = None) -> VersionList:
    """Versions, newest first."""
    return service.list_versions(services, limit, cursor)


@router.post("/versions", status_code=201, responses=problem_responses(404, 409), dependencies=[needs(Scope.WRITE)])
def make_version(services: ServicesDep, caller: CallerDep, response: Response, body: VersionRequest) -> Version:
    """Compose a version of task vectors, patches and versions, or remove a patch from one. No training: seconds."""
    version = service.make_version(services, body, caller.owner)
    response.headers["Location"] = f"/v1/versions/{version.id}"
    return version


@router.get("/versions/{version_id}", responses=problem_responses(404), dependencies=[needs(Scope.READ)])
def get_version(services: ServicesDep, version_id: VersionId) -> Version:
    """One version: its base, its terms and where they came from."""
    return service.get_version(services, version_id)


@router.get("/aliases", responses=problem_responses(), dependencies=[needs(Scope.READ)])
def list_aliases(services: ServicesDep) -> AliasList:
    """Every alias, by name; `active` is always among them."""
    return service.list_aliases(services)


@router.get("/aliases/{alias}", responses=problem_responses(404), dependencies=[needs(Scope.READ)])
def get_alias(services: ServicesDep, response: Response, alias: AliasName) -> Alias:
    """Which version an alias names; `active` is the one that answers. `ETag` changes with every move."""
    return _tagged(response, service.get_alias(services, alias))


@router.get("/aliases/{alias}/history", responses=problem_responses(404), dependencies=[needs(Scope.READ)])
def list_alias_history(
    services: ServicesDep, alias: AliasName, limit: Limit = 100, cursor: Cursor = None
) -> AliasHistory:
    """Every move of an alias, newest first: when, by whom, from, to, why."""
    return service.list_history(services, alias, limit, cursor)


@router.put("/aliases/{alias}", responses=problem_responses(404, 409, 412), dependencies=[needs(Scope.ADMIN)])
def move_alias(
    services: ServicesDep,
    caller: CallerDep,
    response: Response,
    alias: AliasName,
    body: AliasMove,
    if_match: IfMatch = None,
) -> Alias:
    """Let an alias name a version; one that there is not is made.

    For `active` it answers once the version is loaded, verified and serving; if that fails the old one goes on. With
    `If-Match` it is refused if the alias has moved since that tag was read.
    """
    return _tagged(
        response, service.move_alias(services, alias, body.version, body.reason, _revisions(if_match), caller.actor)
    )


@router.post("/aliases/{alias}/rollback", responses=problem_responses(404, 409, 412), dependencies=[needs(Scope.ADMIN)])
def roll_back_alias(
    services: ServicesDep,
    caller: CallerDep,
    response: Response,
    alias: AliasName,
    body: Rollback | None = None,
    if_match: IfMatch = None,
) -> Alias:
    """Undo an alias's last move: it names the version from before again. A second rollback undoes the first."""
    reason = body.reason if body else ""
    return _tagged(response, service.roll_back(services, alias, reason, _revisions(if_match), caller.actor))


def _tagged(response: Response, found: tuple[Alias, int]) -> Alias:
    alias, revision = found
    response.headers["ETag"] = f'"{revision}"'
    return alias


def _revisions(if_match: str | None) -> frozenset[int] | None:
    """The revisions that a header allows; None for any. Tags that we never gave allow nothing (RFC 9110, 13.1.1)."""
    if if_match is None or if_match.strip() == "*":
        return None
    return frozenset(int(tag) for tag in _TAG.findall(if_match))
