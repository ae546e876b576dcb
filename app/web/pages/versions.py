"""Versions: the list, one with its origin and what an activation would do, and two side by side."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.http.dependencies import DatabaseDep
from app.models.bases import BasesDep
from app.patches.service import list_patches
from app.system.service import OverviewDep
from app.versions import aliases, service
from app.versions.comparing import VersionComparerDep
from app.versions.guard import AliasGuardDep
from app.versions.schemas import Version
from app.web.forms import Cursor, Reference
from app.web.lineage import draw_lineage, draw_tracks, track_accuracies
from app.web.site import render
from app.web.visitors import ReaderDep
from contract.bodies import VersionId
from contract.jobs import JobStatus
from contract.versions import ACTIVE_ALIAS
from paint_core.exporting import ExportFormat, usable_formats
from paint_core.models import BaseModel

router = APIRouter(prefix="/ui/versions", include_in_schema=False)

PAGE, MOST_RELATED = 50, 24
_FORMATS: dict[ExportFormat, str] = {
    "open_clip": "open_clip",
    "transformers": "transformers",
    "onnx": "ONNX Runtime",
    "openvino": "OpenVINO",
}


@router.get("")
def show_versions(visitor: ReaderDep, database: DatabaseDep, cursor: Cursor = None, ref: Reference = None) -> Response:
    """Show the versions, newest first, with the aliases that name them."""
    found = service.list_versions(database, PAGE, cursor, (), False, ref)
    tracks = track_accuracies(database, found.items)
    return render("versions.html", visitor, found=found, ref=ref or "", tracks=tracks, drawing=draw_tracks(tracks))


@router.get("/compare")
def show_comparison(
    visitor: ReaderDep,
    database: DatabaseDep,
    comparer: VersionComparerDep,
    before: Annotated[VersionId | None, Query()] = None,
    after: Annotated[VersionId | None, Query()] = None,
) -> Response:
    """Show two versions side by side."""
    known = service.list_versions(database, PAGE, None).items
    found = None if before is None or after is None else comparer.compare(before, after)
    return render("compare.html", visitor, found=found, known=known, before=before, after=after)


@router.get("/compose")
def show_composer(visitor: ReaderDep, database: DatabaseDep) -> Response:
    """Show the form for a mix of patches."""
    found = list_patches(database, PAGE, None, (JobStatus.SUCCEEDED,)).items
    return render("compose.html", visitor, patches=[each for each in found if each.version_id is not None])


@router.get("/{version_id}")
async def show_version(
    visitor: ReaderDep,
    database: DatabaseDep,
    guard: AliasGuardDep,
    overview: OverviewDep,
    bases: BasesDep,
    version_id: VersionId,
) -> Response:
    """Show a version, and whether it may answer requests."""
    version = await run_in_threadpool(service.get_version, database, version_id)
    named = await run_in_threadpool(_aliases, database)
    check = None if version.deleted_at is not None else await guard.check(ACTIVE_ALIAS, version_id)
    compared = (await run_in_threadpool(overview.describe)).comparison
    agreement = compared if compared is not None and compared.shadow_version == version_id else None
    parents = await run_in_threadpool(service.trace_version, database, version_id, MOST_RELATED)
    return render(
        "version.html",
        visitor,
        version=version,
        aliases=named,
        check=check,
        agreement=agreement,
        children=sorted(each for each, known in parents.items() if version_id in known),
        lineage=draw_lineage(version_id, parents, version.base.ref),
        formats=_formats(version, bases.get(version.base.fingerprint)),
    )


def _formats(version: Version, base: BaseModel | None) -> dict[ExportFormat, str]:
    """Return the names of the formats that a version can be downloaded in, by format."""
    has_head = any(term.kind == "head" and term.coefficient for term in version.terms)
    return {} if base is None or has_head else {each: _FORMATS[each] for each in usable_formats(base)}


def _aliases(database: DatabaseDep) -> dict[int, list[str]]:
    """Return the names of the aliases by version."""
    found: dict[int, list[str]] = {}
    for alias in aliases.list_aliases(database).items:
        found.setdefault(alias.version, []).append(alias.name)
    return found
