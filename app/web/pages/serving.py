"""Serving: the aliases with traffic, their moves, and how canary and shadow behave."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from app.http.dependencies import DatabaseDep, SettingsDep
from app.system.service import OverviewDep
from app.versions import aliases
from app.versions.approvals import ApprovalDeskDep
from app.web.site import render
from app.web.visitors import ReaderDep
from contract.versions import ACTIVE_ALIAS

router = APIRouter(prefix="/ui/serving", include_in_schema=False)

NUM_MOVES = 30


@router.get("")
def show_serving(
    visitor: ReaderDep, database: DatabaseDep, overview: OverviewDep, desk: ApprovalDeskDep, settings: SettingsDep
) -> Response:
    """Show what answers requests, and the history of `active`."""
    return render(
        "serving.html",
        visitor,
        state=overview.describe(),
        aliases=aliases.list_aliases(database).items,
        moves=aliases.list_history(database, ACTIVE_ALIAS, NUM_MOVES, None).items,
        approvals=desk.list(ACTIVE_ALIAS, NUM_MOVES, None).items,
        needs_approval=settings.approvals,
        earlier=aliases.find_earlier(database, ACTIVE_ALIAS),
    )
