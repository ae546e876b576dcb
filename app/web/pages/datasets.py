"""Data sets: the list, a new one, and the gallery of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.access.callers import turn_of
from app.datasets import service
from app.datasets.gallery import Filters, GalleryDep
from app.datasets.gallery_schemas import DatasetImage, DatasetImageList
from app.http.dependencies import DatabaseDep
from app.pictures.workers import PictureWorkersDep
from app.web.forms import Cursor, EmptyIsNone, Reference
from app.web.site import render
from app.web.visitors import ReaderDep
from contract.bodies import Id
from contract.datasets import DatasetState, Split
from contract.labels import MAX_LABEL

router = APIRouter(prefix="/ui/datasets", include_in_schema=False)

PAGE, IMAGES = 50, 60
Label = Annotated[str, Field(max_length=MAX_LABEL)]


@router.get("")
def show_datasets(visitor: ReaderDep, database: DatabaseDep, cursor: Cursor = None, ref: Reference = None) -> Response:
    """Show the data sets, newest first."""
    found = service.list_datasets(database, PAGE, cursor, (), ref)
    return render("datasets.html", visitor, found=found, ref=ref or "")


@router.get("/new")
def show_upload(visitor: ReaderDep) -> Response:
    """Show the form for an upload."""
    return render("dataset_new.html", visitor)


@router.get("/{dataset_id}")
async def show_dataset(
    request: Request,
    visitor: ReaderDep,
    database: DatabaseDep,
    gallery: GalleryDep,
    workers: PictureWorkersDep,
    dataset_id: Id,
    split: Annotated[Split | None, EmptyIsNone, Query()] = None,
    label: Annotated[Label | None, EmptyIsNone, Query()] = None,
    cursor: Cursor = None,
) -> Response:
    """Show a data set with its images, by split and class."""
    dataset = await run_in_threadpool(service.get_dataset, database, dataset_id)
    images: DatasetImageList | None = None
    repeated: Sequence[Sequence[DatasetImage]] = ()
    if dataset.state == DatasetState.READY:
        examples = () if dataset.duplicates is None else dataset.duplicates.examples

        def read() -> tuple[DatasetImageList, Sequence[Sequence[DatasetImage]]]:
            stored = gallery.find(dataset_id)
            return gallery.page(stored, Filters(split, label or None), IMAGES, cursor), gallery.repeated(
                stored, examples
            )

        images, repeated = await workers.run(turn_of(request), read)
    return render("dataset.html", visitor, dataset=dataset, images=images, repeated=repeated, split=split, label=label)
