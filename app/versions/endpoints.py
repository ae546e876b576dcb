"""Routes of versions and of the alias that names the active one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.paging import Cursor, Limit
from app.problems import problem_responses
from app.services import ServicesDep
from app.versions import service
from app.versions.schemas import Alias, AliasHistory, AliasMove, Version, VersionList, VersionRequest

router = APIRouter(prefix="/v1", tags=["versions"])

VersionId = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("/versions", responses=problem_responses())
def list_versions(services: ServicesDep, limit: Limit = 100, cursor: Cursor = None) -> VersionList:
    """Versions, newest first."""
    return service.list_versions(services, limit, cursor)


@router.post("/versions", status_code=201, responses=problem_responses(404, 409))
def make_version(services: ServicesDep, response: Response, body: VersionRequest) -> Version:
    """Compose a version of task vectors, patches and versions, or remove a patch from one. No training: seconds."""
    version = service.make_version(services, body)
    response.headers["Location"] = f"/v1/versions/{version.id}"
    return version


@router.get("/versions/{version_id}", responses=problem_responses(404))
def get_version(services: ServicesDep, version_id: VersionId) -> Version:
    """One version: its base, its terms and where they came from."""
    return service.get_version(services, version_id)


@router.get("/aliases/{alias}", responses=problem_responses(404))
def get_alias(services: ServicesDep, alias: str) -> Alias:
    """Which version an alias names; `active` is the one that answers."""
    return service.get_alias(services, alias)


@router.get("/aliases/{alias}/history", responses=problem_responses(404))
def list_alias_history(services: ServicesDep, alias: str, limit: Limit = 100, cursor: Cursor = None) -> AliasHistory:
    """Every move of an alias, newest first: when, by whom, from, to, why."""
    return service.list_history(services, alias, limit, cursor)


@router.put("/aliases/{alias}", responses=problem_responses(404, 409))
def move_alias(services: ServicesDep, alias: str, body: AliasMove) -> Alias:
    """Activate a version. Answers once it is loaded, verified and serving; if that fails the old one goes on."""
    return service.move_alias(services, alias, body)
