"""Routes of evaluations."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response

from app.access.callers import CallerDep
from app.access.policies import Stores, needs
from app.evaluations import predictions, service
from app.evaluations.schemas import EvaluationList, EvaluationResource, EvaluationStarted, PredictionList
from app.http.dependencies import BlobsDep, DatabaseDep
from app.http.idempotency import REPLAYED, IdempotencyKey
from app.http.paging import Cursor, Filters, Limit, Reference, Statuses
from app.http.problems import problem_responses
from contract.access import Scope
from contract.bodies import Id, VersionId
from contract.evaluations import EvaluationRequest
from contract.labels import MAX_LABEL
from registry.owners import Owned

EvaluationId = Annotated[Id, Path(description="Id of the evaluation, such as `ev_…`")]
OfVersion = Annotated[
    VersionId | None, Query(alias="version", description="One of its versions. Default: the first one")
]
LabelFilter = Annotated[str | None, Query(max_length=MAX_LABEL)]
PARQUET, CSV = "application/vnd.apache.parquet", "text/csv; charset=utf-8"
router = APIRouter(prefix="/v1/evaluations", tags=["evaluations"])


@router.post(
    "",
    status_code=202,
    responses=problem_responses(404, 409, 429),
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.WRITE, stores=Stores.COUNTED)],
)
def start_evaluation(
    intake: service.EvaluationIntakeDep,
    caller: CallerDep,
    response: Response,
    body: EvaluationRequest,
    idempotency_key: IdempotencyKey = None,
) -> EvaluationStarted:
    """Evaluate versions on the images of a data set: accuracies, confusion matrix, comparison and all predictions.

    What the same weights have answered to the same images and labels before is not computed again. If the request is
    repeated with the same `Idempotency-Key`, the existing evaluation is returned. Priority `high` requires the scope
    `admin`.
    """
    if body.priority == "high":
        caller.require(Scope.ADMIN)
    started, is_new = intake.start(body, idempotency_key, caller.owner)
    response.headers["Location"] = f"/v1/jobs/{started.job.id}"
    if not is_new:
        response.headers.update(REPLAYED)
    return started


@router.get("", responses=problem_responses(), dependencies=[needs(Scope.READ)])
def list_evaluations(
    database: DatabaseDep,
    filters: Filters,
    limit: Limit = 100,
    cursor: Cursor = None,
    status: Statuses = None,
    dataset: Annotated[Id | None, Query(description="Filter by the id of the data set")] = None,
    reference: Reference = None,
) -> EvaluationList:
    """List evaluations, newest first."""
    return service.list_evaluations(database, limit, cursor, dataset, status or (), reference, filters)


@router.get(
    "/{evaluation_id}",
    responses=problem_responses(404),
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.READ)],
)
def get_evaluation(database: DatabaseDep, evaluation_id: EvaluationId) -> EvaluationResource:
    """Return an evaluation: its request, its job and, when finished, its report."""
    return service.get_evaluation(database, evaluation_id)


@router.delete(
    "/{evaluation_id}",
    status_code=204,
    responses=problem_responses(404, 409),
    dependencies=[needs(Scope.WRITE, own=Owned.EVALUATION)],
)
def delete_evaluation(database: DatabaseDep, evaluation_id: EvaluationId) -> None:
    """Delete an evaluation with its job, and the measurements that no other evaluation refers to.

    Rejected while its job is unfinished.
    """
    service.delete_evaluation(database, evaluation_id)


@router.get("/{evaluation_id}/predictions", responses=problem_responses(404, 409), dependencies=[needs(Scope.READ)])
def list_predictions(
    database: DatabaseDep,
    blobs: BlobsDep,
    evaluation_id: EvaluationId,
    version: OfVersion = None,
    wrong: Annotated[bool | None, Query(description="Filter by whether the answer is wrong")] = None,
    label: Annotated[LabelFilter, Query(description="Filter by the class of the images")] = None,
    predicted: Annotated[LabelFilter, Query(description="Filter by the answer")] = None,
    changed: Annotated[
        bool | None, Query(description="Filter by whether the first version's answer is another one")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Maximum number of predictions")] = 100,
    cursor: Cursor = None,
) -> PredictionList:
    """List the predictions of a version, in the order of the split's images."""
    filters = predictions.Filters(wrong, label, predicted, changed)
    return predictions.list_predictions(database, blobs, evaluation_id, version, filters, limit, cursor)


@router.get(
    "/{evaluation_id}/predictions/file",
    response_class=Response,
    responses={200: {"content": {PARQUET: {}, CSV: {}}}, **problem_responses(404, 409)},
    dependencies=[needs(Scope.READ)],
)
def download_predictions(
    database: DatabaseDep,
    blobs: BlobsDep,
    evaluation_id: EvaluationId,
    version: OfVersion = None,
    file_format: Annotated[
        Literal["parquet", "csv"],
        Query(alias="format", description="`parquet`: labels as indices of those in the metadata; `csv`: by name"),
    ] = "parquet",
) -> Response:
    """Download all predictions of a version: image, label, predicted label, probability and margin."""
    read, media_type = (predictions.parquet_of, PARQUET) if file_format == "parquet" else (predictions.csv_of, CSV)
    content = read(database, blobs, evaluation_id, version)
    name = f"{evaluation_id}-{version}" if version is not None else evaluation_id
    headers = {"Content-Disposition": f'attachment; filename="{name}.{file_format}"'}
    return Response(content, media_type=media_type, headers=headers)
