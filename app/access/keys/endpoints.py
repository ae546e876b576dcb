"""Routes of API keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.access.callers import CallerDep
from app.access.keyring import KeyringDep
from app.access.keys import service
from app.access.keys.schemas import Key, KeyList, KeyRequest, NewKey
from app.access.policies import needs
from app.http.dependencies import DatabaseDep
from app.http.paging import Cursor, Limit
from app.http.problems import problem_responses
from contract.access import Scope
from contract.bodies import Id

KeyId = Annotated[Id, Path(description="Id of the key")]
router = APIRouter(prefix="/v1/keys", tags=["keys"], dependencies=[needs(Scope.ADMIN)])


@router.post("", status_code=201, responses=problem_responses(409))
def create_key(
    database: DatabaseDep, keyring: KeyringDep, caller: CallerDep, response: Response, body: KeyRequest
) -> NewKey:
    """Create an API key. Its token is only returned in this response.

    The first key needs the scope `admin`, unless the service was started with `PAINTBOX_API_KEY`: from then on, every
    `/v1` request needs a key.
    """
    response.headers["Cache-Control"] = "no-store"
    return service.create_key(database, keyring, body, caller)


@router.get("", responses=problem_responses())
def list_keys(database: DatabaseDep, limit: Limit = 100, cursor: Cursor = None) -> KeyList:
    """List API keys, newest first, including revoked and expired ones."""
    return service.list_keys(database, limit, cursor)


@router.delete("/{key_id}", responses=problem_responses(404, 409))
def revoke_key(database: DatabaseDep, keyring: KeyringDep, key_id: KeyId) -> Key:
    """Revoke an API key permanently. Other API processes apply it within a second. Its resources are kept."""
    return service.revoke_key(database, keyring, key_id)
