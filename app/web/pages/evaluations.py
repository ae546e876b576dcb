"""Evaluations: the list, a new one, and one with its confusion matrix, each cell of which leads to its images."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from app.datasets.service import list_datasets
from app.evaluations import predictions, service
from app.http.dependencies import BlobsDep, DatabaseDep
from app.versions.service import list_versions
from app.web.forms import Cursor
from app.web.site import render
from app.web.visitors import ReaderDep
from contract.bodies import Id, VersionId
from contract.datasets import DatasetState
from contract.labels import MAX_LABEL

router = APIRouter(prefix="/ui/evaluations", include_in_schema=False)

PAGE, MOST_CHOICES, IMAGES, MOST_CLASSES = 50, 100, 60, 40
Label = Annotated[str | None, Query(max_length=MAX_LABEL)]


@router.get("")
def show_evaluations(visitor: ReaderDep, database: DatabaseDep, cursor: Cursor = None) -> Response:
    """Show the evaluations, newest first, and the form for a new one."""
    found = service.list_evaluations(database, PAGE, cursor, None, ())
    versions = list_versions(database, MOST_CHOICES, None).items
    datasets = list_datasets(database, MOST_CHOICES, None, (DatasetState.READY,)).items
    labelled = [each for each in datasets if each.num_classes]
    return render("evaluations.html", visitor, found=found, versions=versions, datasets=labelled)


@router.get("/{evaluation_id}")
def show_evaluation(
    visitor: ReaderDep,
    database: DatabaseDep,
    blobs: BlobsDep,
    evaluation_id: Id,
    version: Annotated[VersionId | None, Query()] = None,
    label: Label = None,
    predicted: Label = None,
    cursor: Cursor = None,
) -> Response:
    """Show an evaluation; `label` and `predicted` choose the images that are shown."""
    evaluation = service.get_evaluation(database, evaluation_id)
    shown, images = None, None
    if evaluation.report is not None:
        results = evaluation.report.versions
        shown = next((each for each in results if each.version_id == version), results[0])
        is_chosen = label is not None or predicted is not None
        filters = predictions.Filters(None if is_chosen else True, label, predicted, None)
        if shown.measurement is not None or is_chosen:
            images = predictions.list_predictions(
                database, blobs, evaluation_id, shown.version_id, filters, IMAGES, cursor
            )
    return render(
        "evaluation.html",
        visitor,
        evaluation=evaluation,
        shown=shown,
        images=images,
        label=label,
        predicted=predicted,
        most_classes=MOST_CLASSES,
    )
