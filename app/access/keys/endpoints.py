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
    """Create an API key. Its token is only returned in this response.

    The first key needs the scope `admin`, unless the service was started with `PAINTBOX_API_KEY`: from then on, every
    `/v1` request needs a key.
    """
    response.headers["Cache-Control"] = "no-store"
    return service.create_key(services, body, caller)


@router.get("", responses=problem_responses())
def list_keys(services: ServicesDep, limit: Limit = 100, cursor: Cursor = None) -> KeyList:
    """List API keys, newest first, including revoked and expired ones."""
    return service.list_keys(services, limit, cursor)


@router.delete("/{key_id}", responses=problem_responses(404, 409))
def revoke_key(services: ServicesDep, key_id: Id) -> Key:
    """Revoke an API key permanently. Other API processes apply it within a second. Its resources are kept."""
    return service.revoke_key(services, key_id)
