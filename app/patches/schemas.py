"""API schemas of patches. That of a request is `contract.patch_request.PatchRequest`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field

from app.access.owner import Owner
from app.http.paging import Listed
from app.http.resources import Resource
from app.jobs.schemas import Job, JobBrief, JobError
from app.versions.schemas import BaseBrief, Version
from contract.patch_request import PatchOptions
from contract.recorded import ShapedLike
from contract.report import PatchReport
from contract.scores import AlphaPoint
from registry.tables import BaseModelRow, JobRow, PatchRow


class PatchBrief(Resource):
    """A patch in a list, without request and report; see `GET /v1/patches/{id}`."""

    id: str = Field(description="Id of the patch, such as `pt_…`")
    name: str = Field(description="Display name; not unique")
    base: BaseBrief = Field(description="The base model")
    job_id: str = Field(description="Id of its job")
    job: JobBrief = Field(description="Its job")
    error: JobError | None = Field(description="Error of the failed job; null: not failed")
    version_id: int | None = Field(description="Id of its version; null: not finished")
    owner: Owner
    created_at: datetime = Field(description="When it was requested")

    @classmethod
    def of(cls, row: PatchRow, base: BaseModelRow, job: JobRow, **computed: Any) -> Self:
        """Return the resource of a row, its base and its job."""
        brief, error = JobBrief.from_row(job), JobError.of(job)
        return cls.from_row(row, base=BaseBrief.from_row(base), job=brief, error=error, **computed)


class Patch(PatchBrief):
    """A patch: its request, its job and, when finished, its report."""

    request: Annotated[dict[str, Any], ShapedLike(PatchOptions)] = Field(description="The request")
    report: PatchReport | None = Field(description="The report; null: not finished")

    @classmethod
    def of(cls, row: PatchRow, base: BaseModelRow, job: JobRow, **computed: Any) -> Self:
        """Return the resource of a row, its base and its job."""
        report = None if row.report is None else PatchReport.of_stored(row.report)
        return super().of(row, base, job, report=report, **computed)


class PatchStarted(BaseModel):
    """A patch that was accepted, and the job to watch."""

    patch: Patch = Field(description="The patch")
    job: Job = Field(description="Its job")


class Reselected(BaseModel):
    """A version at another alpha, and its validation scores."""

    version: Version = Field(description="The version")
    is_new: bool = Field(description="False: the patch had a version of this mix already, and this is it")
    alpha: float = Field(description="The alpha, at least 0")
    profile: str = Field(description="How alpha varies with depth: `flat`, `lines` or `lines_paper`")
    rule: str | None = Field(description="Rule that chose alpha; null: alpha was given in the request")
    reason: str = Field(description="Why this alpha, in one sentence")
    validation: AlphaPoint | None = Field(
        description="The point of the validation curve at this alpha, or, as its own `alpha` tells, the nearest one"
    )


class PatchList(Listed):
    """List patches, newest first."""

    items: list[PatchBrief] = Field(description="The patches")
