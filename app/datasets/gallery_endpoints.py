"""Routes of the images of a data set."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from app.access.callers import turn_of
from app.access.policies import needs
from app.datasets.endpoints import DatasetId
from app.datasets.gallery import Filters, GalleryDep
from app.datasets.gallery_schemas import DatasetImageList
from app.http.paging import Cursor
from app.http.problems import problem_responses
from app.pictures.thumbnails import RESPONSES, IfNoneMatch, Size, ThumbnailsDep, ThumbnailSize
from app.pictures.workers import PictureWorkersDep
from contract.access import Scope
from contract.datasets import Split
from contract.labels import MAX_LABEL
from contract.names import MAX_NAME

_MAX_ROW = 2**31 - 1
router = APIRouter(prefix="/v1/datasets/{dataset_id}/images", tags=["datasets"])


@router.get("", responses=problem_responses(404, 409, 429), dependencies=[needs(Scope.READ)])
async def list_dataset_images(
    request: Request,
    gallery: GalleryDep,
    workers: PictureWorkersDep,
    dataset_id: DatasetId,
    split: Annotated[Split | None, Query(description="Filter by split")] = None,
    label: Annotated[str | None, Query(max_length=MAX_LABEL, description="Filter by class")] = None,
    file: Annotated[str | None, Query(max_length=MAX_NAME, description="Filter by path in the upload")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Maximum number of images")] = 100,
    cursor: Cursor = None,
) -> DatasetImageList:
    """List the images of a ready data set, with links to their thumbnails."""

    def read() -> DatasetImageList:
        return gallery.page(gallery.find(dataset_id), Filters(split, label, file), limit, cursor)

    return await workers.run(turn_of(request), read)


@router.get(
    "/{split}/{row}",
    response_class=Response,
    responses={**RESPONSES, **problem_responses(404, 409, 429)},
    dependencies=[needs(Scope.READ)],
)
async def get_dataset_image(
    request: Request,
    gallery: GalleryDep,
    thumbnails: ThumbnailsDep,
    dataset_id: DatasetId,
    split: Annotated[Split, Path(description="Split of the image")],
    row: Annotated[int, Path(ge=0, le=_MAX_ROW, description="Row of the image in its split, from 0")],
    size: Size = ThumbnailSize.MEDIUM,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return a thumbnail of an image as a WebP, as a viewer shows it and without metadata.

    It never changes: `ETag` stays the same, and the response may be cached by the caller.
    """
    picture = await run_in_threadpool(gallery.picture, dataset_id, split, row)
    return await thumbnails.respond(request, picture, size, if_none_match)
