"""Corrections: the inbox of wrong answers, and the way to a data set and a patch."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from app.feedback.service import list_feedback
from app.http.dependencies import DatabaseDep
from app.web.forms import Cursor, EmptyIsNone
from app.web.site import render
from app.web.visitors import VisitorDep
from contract.access import Scope
from contract.feedback import FeedbackSource, FeedbackState
from registry.feedback import FeedbackFilter

router = APIRouter(prefix="/ui/corrections", include_in_schema=False)

PAGE = 60


@router.get("")
def show_corrections(
    visitor: VisitorDep,
    database: DatabaseDep,
    state: Annotated[FeedbackState, Query()] = FeedbackState.OPEN,
    source: Annotated[FeedbackSource | None, EmptyIsNone, Query()] = None,
    cursor: Cursor = None,
) -> Response:
    """Show the inbox, newest first."""
    visitor.caller.require(Scope.WRITE)
    wanted = FeedbackFilter(states=(state,), source=source)
    found = list_feedback(database, wanted, PAGE, cursor)
    labels = sorted({text for each in found.items for text in (each.label, each.predicted) if text})
    return render(
        "corrections.html",
        visitor,
        found=found,
        labels=labels,
        state=state,
        states=list(FeedbackState),
        source=source,
        sources=list(FeedbackSource),
    )
