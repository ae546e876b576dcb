"""Routes of feedback."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from app.access.callers import CallerDep, turn_of
from app.access.policies import Stores, needs
from app.feedback import service
from app.feedback.datasets import CorrectionsDataset, CorrectionsIntakeDep, CorrectionsRequest
from app.feedback.schemas import (
    Answered,
    FeedbackBody,
    FeedbackChange,
    FeedbackErased,
    FeedbackList,
    FeedbackResource,
)
from app.http.dependencies import BlobsDep, DatabaseDep
from app.http.invalid import invalid
from app.http.paging import Cursor, Limit
from app.http.problems import problem_responses
from app.inference.image_requests import describe, read_request
from app.pictures.thumbnails import RESPONSES, IfNoneMatch, Size, ThumbnailsDep, ThumbnailSize
from app.pictures.workers import PictureWorkersDep
from contract.access import Scope
from contract.bodies import Id, VersionId
from contract.feedback import FeedbackSource, FeedbackState
from contract.names import Name
from registry.feedback import FeedbackFilter

FeedbackId = Annotated[Id, Path(description="Id of the feedback, such as `fb_…`")]
router = APIRouter(prefix="/v1", tags=["feedback"])


async def _read_filter(
    state: Annotated[
        Annotated[list[FeedbackState], Field(fail_fast=True)] | None,
        Query(max_length=4, description="Filter; repeatable"),
    ] = None,
    label: Annotated[Name | None, Query(description="Filter by the right label")] = None,
    labelled: Annotated[bool | None, Query(description="Filter by whether the right label is known")] = None,
    predicted: Annotated[Answered | None, Query(description="Filter by the label that was answered")] = None,
    version: Annotated[VersionId | None, Query(description="Filter by the version that answered")] = None,
    source: Annotated[FeedbackSource | None, Query(description="Filter by origin")] = None,
    owner: Annotated[Name | None, Query(description="Filter by the name of the key that sent it")] = None,
) -> FeedbackFilter:
    return FeedbackFilter(tuple(state or ()), label, labelled, predicted, version, source, owner)


Filter = Annotated[FeedbackFilter, Depends(_read_filter)]


@router.post(
    "/feedback",
    status_code=201,
    response_model=FeedbackResource,
    responses={200: {"model": FeedbackResource}, **problem_responses(400, 404, 409, 413, 415, 429)},
    openapi_extra=describe(FeedbackBody),
    dependencies=[needs(Scope.CLASSIFY, stores=Stores.COUNTED)],
)
async def send_feedback(
    request: Request,
    intake: service.FeedbackIntakeDep,
    workers: PictureWorkersDep,
    caller: CallerDep,
    response: Response,
) -> FeedbackResource:
    """Report a wrong answer: the image, what a version answered, and the right label, if it is known.

    Accepts the same formats as `POST /v1/classify`, with one image. In JSON, `dataset`, `split` and `row` name an image
    of a data set instead, and `sample` that of other feedback. The image is stored as it was sent. Returns 201, or 200
    if the same key has sent an image that shows the same with the same label, and it was not yet dismissed or used.
    """
    body = await read_request(request, FeedbackBody)
    stored, is_new = await workers.run(turn_of(request), partial(intake.add, body, caller.owner))
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/feedback/{stored.id}"
    return stored


@router.get("/feedback", responses=problem_responses(), dependencies=[needs(Scope.WRITE)])
def list_feedback(database: DatabaseDep, wanted: Filter, limit: Limit = 100, cursor: Cursor = None) -> FeedbackList:
    """List feedback, newest first."""
    return service.list_feedback(database, wanted, limit, cursor)


@router.delete("/feedback", responses=problem_responses(), dependencies=[needs(Scope.WRITE)])
def delete_matching_feedback(database: DatabaseDep, blobs: BlobsDep, wanted: Filter) -> FeedbackErased:
    """Delete the feedback that passes the filters, oldest first, at most 1,000, and its images.

    At least one filter is required. Images that other feedback refers to are kept.
    """
    if wanted == FeedbackFilter():
        raise invalid("at least one filter is required", "query")
    return service.erase_matching(database, blobs, wanted)


@router.get("/feedback/{feedback_id}", responses=problem_responses(404), dependencies=[needs(Scope.WRITE)])
def get_feedback(database: DatabaseDep, feedback_id: FeedbackId) -> FeedbackResource:
    """Return feedback."""
    return service.get_feedback(database, feedback_id)


@router.get(
    "/feedback/{feedback_id}/image",
    response_class=Response,
    responses={**RESPONSES, **problem_responses(404, 429)},
    dependencies=[needs(Scope.WRITE)],
)
async def get_feedback_image(
    request: Request,
    database: DatabaseDep,
    blobs: BlobsDep,
    thumbnails: ThumbnailsDep,
    feedback_id: FeedbackId,
    size: Size = ThumbnailSize.MEDIUM,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return a thumbnail of the image of feedback as a WebP, as a viewer shows it and without metadata."""
    picture = await run_in_threadpool(service.picture_of, database, blobs, feedback_id)
    return await thumbnails.respond(request, picture, size, if_none_match)


@router.patch("/feedback/{feedback_id}", responses=problem_responses(404), dependencies=[needs(Scope.WRITE)])
def change_feedback(database: DatabaseDep, feedback_id: FeedbackId, body: FeedbackChange) -> FeedbackResource:
    """Set the right label, decide, or add a remark."""
    return service.change_feedback(database, feedback_id, body)


@router.delete("/feedback/{feedback_id}", responses=problem_responses(404), dependencies=[needs(Scope.WRITE)])
def delete_feedback(database: DatabaseDep, blobs: BlobsDep, feedback_id: FeedbackId) -> FeedbackErased:
    """Delete feedback and its image permanently, unless other feedback refers to the image."""
    return service.erase_one(database, blobs, feedback_id)


@router.post(
    "/datasets/from-feedback",
    status_code=202,
    responses={200: {"model": CorrectionsDataset}, **problem_responses(404, 409, 429)},
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.WRITE, stores=Stores.COUNTED)],
)
def create_dataset_from_feedback(
    intake: CorrectionsIntakeDep, caller: CallerDep, response: Response, body: CorrectionsRequest
) -> CorrectionsDataset:
    """Make a data set from open and accepted feedback with a label, at most 10,000 images.

    Its classes are the right labels, and the labels that were answered instead. The split of an image depends on what
    it shows, so it is the same in every data set: about 70 % train, 15 % validation, 15 % test. Each class needs an
    image in train. Images for train and validation that show the same as a test image of any data set are left out;
    the data set lists them as `rejected`. When the job has succeeded, the feedback is `used`.

    Returns 202, or 200 if the same feedback was made a data set before. `patch` is a request for `POST /v1/patches`.
    """
    made = intake.submit(body, caller.owner)
    response.status_code = 202 if made.is_new else 200
    response.headers["Location"] = f"/v1/datasets/{made.resource.dataset.id}"
    return made.resource
