"""What a patch looks like on the wire. The request for one is `contract.patch_request.PatchRequest`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from app.access.owner import Owner
from app.http.paging import Listed
from app.jobs.schemas import Job, JobBrief, JobError
from app.versions.schemas import BaseBrief, Profile, Version
from contract.bodies import Body
from contract.names import Name
from contract.patch_request import Drops
from registry.tables import BaseModelRow, JobRow, PatchRow


class PatchBrief(BaseModel):
    """A patch in a list: without what was asked and what came of it, which `GET /v1/patches/{id}` tells."""

    id: str
    name: str
    base: BaseBrief
    job_id: str
    job: JobBrief
    error: JobError | None
    version_id: int | None = Field(description="The version it made, once done")
    owner: Owner
    created_at: datetime

    @classmethod
    def of(cls, row: PatchRow, base: BaseModelRow, job: JobRow) -> PatchBrief:
        """Return the brief of a row, its base and its job."""
        return cls(
            id=row.id,
            name=row.name,
            base=BaseBrief.of(base),
            job_id=row.job_id,
            job=JobBrief.of(job),
            error=JobError.of(job),
            version_id=row.version_id,
            owner=row.owner,
            created_at=row.created_at,
        )


class Patch(PatchBrief):
    """A request to patch, the job that does it, and its report once there is one."""

    request: dict[str, Any]
    report: dict[str, Any] | None = Field(description="Accuracies, alpha curve, timings, once done")

    @classmethod
    def of(cls, row: PatchRow, base: BaseModelRow, job: JobRow) -> Patch:
        """Return the resource of a row, its base and its job."""
        return cls(**vars(PatchBrief.of(row, base, job)), request=row.request, report=row.report)


class PatchStarted(BaseModel):
    """A patch that was accepted, and the job to watch."""

    patch: Patch
    job: Job


class ReselectRequest(Body):
    """Body of `POST /v1/patches/{id}/reselect`: a rule to choose alpha by, or the alpha itself."""

    name: Name | None = Field(default=None, description="Of the version; left out: the patch's, and the alpha")
    rule: Literal["combined", "floor"] | None = None
    max_supported_drop: Drops | None = Field(
        default=None, description="With `floor`: points that a supported task may lose, for all or by data set id"
    )
    alpha: float | None = Field(
        default=None, ge=0, le=3, description="In [0, 1], or up to 3 along a path that goes beyond 1"
    )
    profile: Profile | None = Field(
        default=None, description="Left out: the patch's own for an alpha, the best of those measured for a rule"
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.rule is None) == (self.alpha is None):
            raise ValueError("exactly one of rule and alpha is required")
        if self.rule == "floor" and self.max_supported_drop in (None, {}):
            raise ValueError("rule floor needs max_supported_drop, the maximum drop of a supported task in points")
        if self.rule != "floor" and self.max_supported_drop is not None:
            raise ValueError("max_supported_drop requires rule floor")
        return self


class Reselected(BaseModel):
    """A version at another alpha, and what validation images say about it."""

    version: Version
    is_new: bool = Field(description="False: the patch had a version of this mix already, and this is it")
    alpha: float
    profile: str
    rule: str | None = Field(description="What chose alpha; null: the request named it")
    reason: str
    validation: dict[str, Any] | None = Field(
        description="The point of the validation curve at this alpha, or, as its own `alpha` tells, the nearest one"
    )


class PatchList(Listed):
    """List patches, newest first."""

    items: list[PatchBrief]
