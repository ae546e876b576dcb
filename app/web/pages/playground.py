"""The playground: one image, labels of the visitor's choice, one or two versions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from app.http.dependencies import DatabaseDep
from app.versions.aliases import list_aliases
from app.versions.service import list_versions
from app.web.site import render
from app.web.visitors import VisitorDep
from contract.access import Scope

router = APIRouter(prefix="/ui/playground")

MOST_VERSIONS = 50


@router.get("")
def show_playground(
    visitor: VisitorDep,
    database: DatabaseDep,
    version: Annotated[list[str], Query(max_length=2)] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Show the playground."""
    visitor.caller.require(Scope.CLASSIFY)
    may_read = visitor.may("read")
    names = [alias.name for alias in list_aliases(database).items] if may_read else ["active"]
    known = list_versions(database, MOST_VERSIONS, None).items if may_read else []
    return render("playground.html", visitor, aliases=names, known=known, chosen=[*version, "", ""][:2])
