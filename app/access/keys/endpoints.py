"""Routes of API keys."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.access.callers import CallerDep
from app.access.keys import service
from app.access.keys.schemas import Key, KeyList, KeyRequest, NewKey
from app.access.policies import needs
from app.http.paging import Cursor, Limit
from app.http.problems import problem_responses
from app.http.services import ServicesDep
from contract.access import Scope
from contract.bodies import Id

router = APIRouter(prefix="/v1/keys", tags=["keys"], dependencies=[needs(Scope.ADMIN)])


@router.post("", status_code=201, responses=problem_responses(409))
def create_key(services: ServicesDep, caller: CallerDep, response: Response, body: KeyRequest) -> NewKey:
    """Make a key. Its token is in this answer and nowhere else.

    The first key needs scope `admin`, unless the service was started with `PAINTBOX_API_KEY`: from then on every `/v1`
    request needs a key.
    """
    response.headers["Cache-Control"] = "no-store"
    return service.create_key(services, body, caller)


@router.get("", responses=problem_responses())
def list_keys(services: ServicesDep, limit: Limit = 100, cursor: Cursor = None) -> KeyList:
    """Keys, newest first, those that were revoked or have expired too."""
    return service.list_keys(services, limit, cursor)


@router.delete("/{key_id}", responses=problem_responses(404, 409))
def revoke_key(services: ServicesDep, key_id: Id) -> Key:
    """Revoke a key, for good: here at once, in other processes of the API within a second. What it made stays."""
    return service.revoke_key(services, key_id)
