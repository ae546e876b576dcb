"""The route that collects images of data sets into a new one."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.access.callers import CallerDep
from app.access.policies import Stores, needs
from app.collecting.service import CollectorDep
from app.datasets.endpoints import present
from app.datasets.schemas import Dataset
from app.http.idempotency import IdempotencyKey
from app.http.problems import problem_responses
from contract.access import Scope
from contract.collections import CollectRequest

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


@router.post(
    "/collect",
    status_code=202,
    responses={200: {"model": Dataset}, **problem_responses(404, 409, 413, 429)},
    dependencies=[needs(Scope.WRITE, stores=Stores.COUNTED)],
)
def collect_dataset(
    collector: CollectorDep,
    caller: CallerDep,
    response: Response,
    body: CollectRequest,
    idempotency_key: IdempotencyKey = None,
) -> Dataset:
    """Create a data set from images of ready data sets, without an upload.

    Images are chosen by split, row and class, or by their predictions in a finished evaluation, such as a cell of its
    confusion matrix. A worker copies them. The classes are all classes of the sources, in their order, unless
    `as_label` names one.

    Returns 202 with the data set in state `ingesting` and its job, or 200 if the same images were already collected
    with the same options. The sources cannot be deleted before the job has ended.
    """
    return present(response, collector.submit(body, caller.owner, idempotency_key))
