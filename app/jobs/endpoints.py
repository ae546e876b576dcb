"""Routes of jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from app.access.callers import CallerDep
from app.access.policies import Stores, needs
from app.http.dependencies import DatabaseDep, SettingsDep
from app.http.paging import Cursor, Filters, Limit, Reference, Statuses
from app.http.problems import problem_responses
from app.jobs import service
from app.jobs.events import JobEventList, describe_event
from app.jobs.schemas import Job, JobDetail, JobList
from app.jobs.streaming import EventStreamResponse, EventStreamsDep, wants_stream
from app.jobs.unit_of_work import UnitsOfWorkDep
from contract.access import Scope
from contract.bodies import Id
from contract.jobs import JobKind
from registry.database import Database
from registry.owners import Owned

_MAX_ID = 2**31 - 1

_OWN = needs(Scope.WRITE, own=Owned.JOB)

JobId = Annotated[Id, Path(description="Id of the job, such as `job_…`")]
router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("", responses=problem_responses(), dependencies=[needs(Scope.READ)])
def list_jobs(
    database: DatabaseDep,
    filters: Filters,
    limit: Limit = 100,
    cursor: Cursor = None,
    status: Statuses = None,
    kind: Annotated[JobKind | None, Query(description="Filter by kind of job")] = None,
    reference: Reference = None,
) -> JobList:
    """List jobs, newest first. `ref` also matches the data set or the patch of a job."""
    return service.list_jobs(database, limit, cursor, status or (), kind, reference, filters)


@router.get("/{job_id}", responses=problem_responses(404), dependencies=[needs(Scope.READ)])
def get_job(database: DatabaseDep, job_id: JobId) -> JobDetail:
    """Return a job: its status, stage, progress from 0 to 1, estimated seconds left, and attempts.

    A failed job contains the cause and the last lines of its log.
    """
    return service.get_job(database, job_id)


@router.get(
    "/{job_id}/events",
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {"description": "The job has ended, and `Last-Event-ID` was its last event: do not reconnect"},
        **problem_responses(404, 429),
    },
    response_model=JobEventList,
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.READ)],
)
async def list_job_events(
    request: Request,
    database: DatabaseDep,
    streams: EventStreamsDep,
    caller: CallerDep,
    job_id: JobId,
    after: Annotated[int, Query(ge=0, le=_MAX_ID, description="Id of the last event that is known already")] = 0,
    last_event_id: Annotated[
        int | None,
        Header(alias="Last-Event-ID", ge=0, le=_MAX_ID, description="Resumes a stream after the event with this id"),
    ] = None,
) -> JobEventList | Response:
    """List the events of a job after event `after`, oldest first.

    With `Accept: text/event-stream`, events are streamed as they happen: each event with its id, and the job in an
    event `job` whenever it changes, until it ends. To resume after a lost connection, send `Last-Event-ID`.
    """
    if wants_stream(request):
        after = max(after, last_event_id or 0)
        if await run_in_threadpool(streams.has_ended, job_id, after) and last_event_id is not None:
            return Response(status_code=204)
        return EventStreamResponse(streams.open(job_id, after, caller.owner))
    return await run_in_threadpool(_page, database, job_id, after)


def _page(database: Database, job_id: JobId, after: int) -> JobEventList:
    events = [describe_event(row) for row in service.list_events(database, job_id, after)]
    return JobEventList(items=events, next_after=events[-1].id if events else after)


@router.post("/{job_id}/cancel", responses=problem_responses(404, 409), dependencies=[_OWN])
def cancel_job(database: DatabaseDep, job_id: JobId) -> Job:
    """Cancel a job: immediately if it is queued, else as soon as its worker notices."""
    return Job.of(service.cancel_job(database, job_id))


@router.post(
    "/{job_id}/retry",
    status_code=202,
    responses=problem_responses(404, 409, 429),
    dependencies=[needs(Scope.WRITE, own=Owned.JOB, stores=Stores.UNCOUNTED)],
)
def retry_job(units: UnitsOfWorkDep, settings: SettingsDep, job_id: JobId) -> Job:
    """Retry the job of a patch that failed or was cancelled. It resumes from its last checkpoint, if there is one."""
    return Job.of(service.retry_job(units, settings.max_unfinished_jobs, job_id))
