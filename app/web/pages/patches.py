"""Patches: the list, a new one, and one as it runs and when it is finished."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from app.datasets.service import list_datasets
from app.http.dependencies import DatabaseDep
from app.jobs.service import get_job
from app.patches import service
from app.web.charts import curve_of, draw_empty, draw_patch
from app.web.forms import Cursor, Reference
from app.web.site import render
from app.web.visitors import ReaderDep
from contract.bodies import Id
from contract.datasets import DatasetKind, DatasetState
from contract.names import MAX_NAME

router = APIRouter(prefix="/ui/patches", include_in_schema=False)

PAGE, MOST_DATASETS = 50, 200
Chosen = Annotated[list[str], Query(max_length=64)]


@router.get("")
def show_patches(visitor: ReaderDep, database: DatabaseDep, cursor: Cursor = None, ref: Reference = None) -> Response:
    """Show the patches, newest first."""
    found = service.list_patches(database, PAGE, cursor, (), ref)
    return render("patches.html", visitor, found=found, ref=ref or "")


@router.get("/new")
def show_new_patch(
    visitor: ReaderDep,
    database: DatabaseDep,
    task: Chosen = [],  # noqa: B006 - FastAPI copies it
    supported: Chosen = [],  # noqa: B006
    anchors: Annotated[str, Query(max_length=64)] = "",
    name: Annotated[str, Query(max_length=MAX_NAME)] = "",
    options: Annotated[str, Query(max_length=20_000)] = "",
) -> Response:
    """Show the form for a patch; the parameters fill it in."""
    ready = list_datasets(database, MOST_DATASETS, None, (DatasetState.READY,)).items
    labelled = [each for each in ready if each.kind is DatasetKind.LABELLED]
    pool = next((each.id for each in ready if each.kind is DatasetKind.POOL), "drawn")
    return render(
        "patch_new.html",
        visitor,
        labelled=labelled,
        pools=ready,
        chosen=set(task),
        supported=set(supported),
        anchors=anchors or pool,
        name=name,
        options=options,
    )


@router.get("/{patch_id}")
def show_patch(visitor: ReaderDep, database: DatabaseDep, patch_id: Id) -> Response:
    """Show a patch: its progress while it runs, then its report with the alpha explorer."""
    patch = service.get_patch(database, patch_id)
    job = get_job(database, patch.job_id)
    curve = None if patch.report is None else draw_patch(patch.report)
    points = () if patch.report is None else curve_of(patch.report)
    names = {} if patch.report is None else {task.dataset_id: task.name for task in patch.report.tasks}
    return render(
        "patch.html", visitor, patch=patch, job=job, names=names, curve=curve, points=points, axes=draw_empty()
    )
