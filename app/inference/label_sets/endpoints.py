"""Routes of label sets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.access.callers import CallerDep
from app.access.policies import Stores, needs
from app.http.dependencies import DatabaseDep, SettingsDep
from app.http.paging import Cursor, Limit, Reference
from app.http.problems import problem_responses
from app.inference.label_sets import service
from app.inference.label_sets.schemas import LabelSet, LabelSetList, LabelSetRequest
from app.labels.stored import StoredLabelsDep
from app.models.dependencies import EngineDep
from app.models.pool import VersionPoolDep
from contract.access import Scope
from contract.bodies import Id
from registry.owners import Owned

LabelSetId = Annotated[Id, Path(description="Id of the label set")]
router = APIRouter(prefix="/v1/label-sets", tags=["label sets"])


@router.post(
    "",
    status_code=201,
    responses={200: {"model": LabelSet}, **problem_responses()},
    dependencies=[needs(Scope.WRITE, stores=Stores.COUNTED)],
)
def create_label_set(
    database: DatabaseDep,
    engine: EngineDep,
    versions: VersionPoolDep,
    settings: SettingsDep,
    caller: CallerDep,
    response: Response,
    body: LabelSetRequest,
) -> LabelSet:
    """Store labels and templates for use in classify requests.

    The id is a hash of labels and templates. Returns 201, or 200 if the same label set already exists, of any owner.
    """
    label_set, is_new = service.create_label_set(database, engine, versions, settings, body, caller.owner)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/label-sets/{label_set.id}"
    return label_set


@router.get("", responses=problem_responses(), dependencies=[needs(Scope.READ)])
def list_label_sets(
    database: DatabaseDep, limit: Limit = 100, cursor: Cursor = None, reference: Reference = None
) -> LabelSetList:
    """List label sets, newest first, without their labels."""
    return service.list_label_sets(database, limit, cursor, reference)


@router.get("/{label_set_id}", responses=problem_responses(404), dependencies=[needs(Scope.READ)])
def get_label_set(database: DatabaseDep, label_set_id: LabelSetId) -> LabelSet:
    """Return a label set with its labels."""
    return service.get_label_set(database, label_set_id)


@router.delete(
    "/{label_set_id}",
    status_code=204,
    responses=problem_responses(404),
    dependencies=[needs(Scope.WRITE, own=Owned.LABEL_SET)],
)
def delete_label_set(database: DatabaseDep, labels: StoredLabelsDep, label_set_id: LabelSetId) -> None:
    """Delete a label set. Other API processes stop using it within ten seconds."""
    service.remove_label_set(database, labels, label_set_id)
