"""Routes of jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.jobs import service
from app.jobs.schemas import Job, JobEvent, JobEventList, JobList
from app.paging import Limit
from app.problems import problem_responses
from app.services import ServicesDep

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("", responses=problem_responses())
def list_jobs(services: ServicesDep, limit: Limit = 100) -> JobList:
    """Jobs, newest first."""
    return JobList(items=[Job.of(row) for row in service.list_jobs(services, limit)])


@router.get("/{job_id}", responses=problem_responses(404))
def get_job(services: ServicesDep, job_id: str) -> Job:
    """One job: its status, stage, progress from 0 to 1, seconds to go, and, once failed, the cause."""
    return Job.of(service.get_job(services, job_id))


@router.get("/{job_id}/events", responses=problem_responses(404))
def list_job_events(
    services: ServicesDep, job_id: str, after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0
) -> JobEventList:
    """What happened to a job since event `after`, oldest first."""
    events = [JobEvent.of(row) for row in service.list_events(services, job_id, after)]
    return JobEventList(items=events, next_after=events[-1].id if events else after)


@router.post("/{job_id}/cancel", responses=problem_responses(404, 409))
def cancel_job(services: ServicesDep, job_id: str) -> Job:
    """Cancel a job: at once if it still waits, else as soon as its worker notices."""
    return Job.of(service.cancel_job(services, job_id))
