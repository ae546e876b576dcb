"""The playground: one image, labels of the visitor's choice, any number of versions side by side."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import StringConstraints
from starlette.responses import Response

from app.http.dependencies import DatabaseDep
from app.versions.aliases import list_aliases
from app.versions.service import list_versions
from app.web.site import render
from app.web.visitors import VisitorDep
from contract.access import Scope

router = APIRouter(prefix="/ui/playground", include_in_schema=False)

Version = Annotated[str, StringConstraints(max_length=64)]
LISTED_VERSIONS, MOST_CHOSEN = 50, 8


@router.get("")
def show_playground(
    visitor: VisitorDep,
    database: DatabaseDep,
    version: Annotated[list[Version], Query(max_length=MOST_CHOSEN)] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Show the playground."""
    visitor.caller.require(Scope.CLASSIFY)
    may_read = visitor.may("read")
    names = [alias.name for alias in list_aliases(database).items] if may_read else ["active"]
    known = list_versions(database, LISTED_VERSIONS, None).items if may_read else []
    others = [each for each in version if each not in names and each not in {str(one.id) for one in known}]
    return render(
        "playground.html",
        visitor,
        choices=[(name, name) for name in names]
        + [(str(each.id), f"{each.id} {each.name}") for each in known]
        + [(each, each) for each in others],
        chosen=version or ["active"],
        most=MOST_CHOSEN,
    )
