"""What a patch looks like on the wire. A request's body is `registry.contract.PatchRequest`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from app.jobs.schemas import Job, JobBrief, JobError
from app.versions.schemas import BaseBrief
from registry.tables import BaseModelRow, JobRow, PatchRow


class Patch(BaseModel):
    """A request to patch, the job that does it, and its report once there is one."""

    id: str
    name: str
    request: dict[str, Any]
    base: BaseBrief
    job_id: str
    job: JobBrief
    error: JobError | None
    version_id: int | None = Field(description="The version it made, once done")
    report: dict[str, Any] | None = Field(description="Accuracies, alpha curve, timings, once done")
    created_at: datetime

    @classmethod
    def of(cls, row: PatchRow, base: BaseModelRow, job: JobRow) -> Patch:
        """Return the resource of a row, its base and its job."""
        return cls(
            id=row.id,
            name=row.name,
            request=row.request,
            base=BaseBrief.of(base),
            job_id=row.job_id,
            job=JobBrief.of(job),
            error=JobError.of(job),
            version_id=row.version_id,
            report=row.report,
            created_at=row.created_at,
        )


class PatchStarted(BaseModel):
    """A patch that was accepted, and the job to watch."""

    patch: Patch
    job: Job


class PatchList(BaseModel):
    """Patches, newest first."""

    items: list[Patch]
