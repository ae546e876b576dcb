"""What must hold once the dust has settled, read from the database."""

from collections import Counter
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.jobs import MAX_ATTEMPTS, JobKind, JobStatus
from registry.blobs import FileBlobStore
from registry.database import Database
from registry.datasets import Datasets
from registry.jobs import Jobs
from registry.tables import JobRow, PatchRow, VersionRow, VersionTermRow
from tests.chaos.clients import Asked

_ENDS = frozenset({"succeeded", "failed", "cancelled"})


def find_broken(database: Database, blobs: FileBlobStore, asked: Asked, num_jobs: int, known: set[str]) -> list[str]:
    """Return a sentence for each broken promise; `known` are the jobs that were there before."""
    with database.read() as session:
        jobs = {job.id: job for job in session.scalars(select(JobRow)) if job.id not in known}
        broken = list(asked.refusals)
        if len(asked.jobs) != num_jobs or len(set(asked.jobs.values())) != num_jobs:
            broken.append(f"{num_jobs} jobs were asked for, {len(set(asked.jobs.values()))} acknowledged")
        broken += [f"{each} was acknowledged and is gone" for each in set(asked.jobs.values()) - jobs.keys()]
        whole = {job.parent_id or job.id for job in jobs.values()}
        broken += [f"{each} was made, but for no request" for each in whole - set(asked.jobs.values())]
        versions = Counter(session.scalars(select(VersionRow.job_id).where(VersionRow.job_id.is_not(None))))
        for job in jobs.values():
            broken += [f"{job.kind} job {job.id} {each}" for each in _of_job(session, job, versions[job.id], asked)]
        broken += _of_blobs(session, blobs)
    return broken


def _of_job(session: Session, job: JobRow, num_versions: int, asked: Asked) -> Iterator[str]:
    status = JobStatus(job.status)
    if not status.ended:
        yield f"is {status} for good"
        return
    ends = [event.message for event in Jobs(session).events(job.id) if event.message in _ENDS]
    if ends != [status]:
        yield f"is {status} and tells of {ends}"
    if num_versions != (status is JobStatus.SUCCEEDED and job.kind == JobKind.PATCH):
        yield f"is {status} and has {num_versions} versions"
    yield from _of_family(session, job, asked)
    if job.kind == JobKind.PATCH:
        patch = session.scalars(select(PatchRow).where(PatchRow.job_id == job.id)).one()
        if (patch.version_id is None) != (num_versions == 0):
            yield f"has a patch that names version {patch.version_id}"
    elif job.kind == JobKind.INGEST:
        state = Datasets(session).get(job.subject_id).state
        if (state == "ready") != (status is JobStatus.SUCCEEDED):
            yield f"is {status} and its data set is {state}"


def _of_family(session: Session, job: JobRow, asked: Asked) -> Iterator[str]:
    """Whether there is a cause for a job's end, in what was asked, in itself or, where it has parts, in one of them."""
    whole = job.parent_id or job.id
    parts = [JobStatus(part.status) for part in Jobs(session).children(whole)]
    broken_part = JobStatus.FAILED in parts
    if job.id == whole and job.status == JobStatus.SUCCEEDED and set(parts) - {JobStatus.SUCCEEDED}:
        yield f"succeeded and its parts are {parts}"
    is_to_blame = job.status == JobStatus.FAILED and not (job.id == whole and broken_part)
    if is_to_blame and (job.error_code, job.attempt) != ("attempts_exhausted", MAX_ATTEMPTS):
        yield f"failed after {job.attempt} attempts with {job.error_code}: {job.error_detail}"
    if job.status == JobStatus.CANCELLED and not broken_part and whole not in asked.cancelled:
        yield "was cancelled, which nobody asked for"


def _of_blobs(session: Session, blobs: FileBlobStore) -> Iterator[str]:
    for sha256 in session.scalars(select(VersionTermRow.task_vector_sha256)):
        if not blobs.read(sha256).startswith(b"task vector of job_"):
            yield f"task vector {sha256} is not what was stored"
