"""The system's state, base models, jobs, and keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from app.access.keys.service import list_keys
from app.http.dependencies import DatabaseDep
from app.jobs.service import get_job, list_jobs
from app.system.bases import BaseCatalogueDep
from app.system.service import OverviewDep
from app.web.forms import Cursor
from app.web.site import render
from app.web.visitors import AdminDep, ReaderDep
from contract.access import Scope
from contract.bodies import Id
from contract.jobs import JobStatus

router = APIRouter(prefix="/ui", include_in_schema=False)

PAGE = 50


@router.get("/system")
def show_system(visitor: ReaderDep, overview: OverviewDep) -> Response:
    """Show the software, the device, the disk and the processes."""
    return render("system.html", visitor, state=overview.describe())


@router.get("/bases")
def show_bases(visitor: ReaderDep, catalogue: BaseCatalogueDep) -> Response:
    """Show the base models."""
    return render("bases.html", visitor, bases=catalogue.list().items)


@router.get("/jobs")
def show_jobs(
    visitor: ReaderDep,
    database: DatabaseDep,
    cursor: Cursor = None,
    status: Annotated[JobStatus | None, Query()] = None,
) -> Response:
    """Show the jobs, newest first."""
    page = list_jobs(database, PAGE, cursor, () if status is None else (status,), None)
    return render(
        "jobs.html", visitor, jobs=page.items, next_cursor=page.next_cursor, status=status, statuses=list(JobStatus)
    )


@router.get("/jobs/{job_id}")
def show_job(visitor: ReaderDep, database: DatabaseDep, job_id: Id) -> Response:
    """Show a job with its attempts and, if it failed, the end of its log."""
    return render("job.html", visitor, job=get_job(database, job_id))


@router.get("/keys")
def show_keys(visitor: AdminDep, database: DatabaseDep, cursor: Cursor = None) -> Response:
    """Show the API keys."""
    return render("keys.html", visitor, found=list_keys(database, PAGE, cursor), scopes=list(Scope))
