"""API schemas of evaluations. That of a request is `contract.evaluations.EvaluationRequest`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field

from app.access.owner import Owner
from app.http.paging import Listed
from app.http.resources import Resource
from app.jobs.schemas import Job, JobBrief, JobError
from contract.evaluations import EvaluationOptions, EvaluationReport
from contract.recorded import ShapedLike
from registry.tables import EvaluationRow, JobRow


class EvaluationBrief(Resource):
    """An evaluation in a list, without request and report; see `GET /v1/evaluations/{id}`."""

    id: str = Field(description="Id of the evaluation, such as `ev_…`")
    name: str = Field(description="Display name; not unique")
    version_ids: list[int] = Field(description="Ids of the versions, in the order of the request, each once")
    dataset_id: str = Field(description="Id of the data set")
    split: str = Field(description="Which of its images: `train`, `validation` or `test`")
    job_id: str = Field(description="Id of its job")
    job: JobBrief = Field(description="Its job")
    error: JobError | None = Field(description="Error of the failed job; null: not failed")
    owner: Owner
    created_at: datetime = Field(description="When it was requested")

    @classmethod
    def of(cls, row: EvaluationRow, job: JobRow, **computed: Any) -> Self:
        """Return the resource of a row and its job."""
        return cls.from_row(row, job=JobBrief.from_row(job), error=JobError.of(job), **computed)


class EvaluationResource(EvaluationBrief):
    """An evaluation: its request, its job and, when finished, its report."""

    request: Annotated[dict[str, Any], ShapedLike(EvaluationOptions)] = Field(description="The request")
    report: EvaluationReport | None = Field(description="The report; null: not finished")

    @classmethod
    def of(cls, row: EvaluationRow, job: JobRow, **computed: Any) -> Self:
        """Return the resource of a row and its job."""
        report = None if row.report is None else EvaluationReport.of_stored(row.report)
        return super().of(row, job, report=report, **computed)


class EvaluationStarted(BaseModel):
    """An evaluation that was accepted, and the job to watch."""

    evaluation: EvaluationResource = Field(description="The evaluation")
    job: Job = Field(description="Its job")


class EvaluationList(Listed):
    """List evaluations, newest first."""

    items: list[EvaluationBrief] = Field(description="The evaluations")


class ImagePrediction(BaseModel):
    """The answer of a version to one image."""

    index: int = Field(description="Position of the image in the split, from 0")
    image: str = Field(description="Name of the image in the upload")
    label: str | None = Field(description="Its class; null: it has none")
    predicted: str = Field(description="The best label")
    probability: float = Field(description="Probability of the best label, softmax over all labels, 0 to 1")
    margin: float = Field(description="By how much it exceeds the probability of the second best label, 0 to 1")
    predicted_before: str | None = Field(
        description="Best label of the evaluation's first version; null: this is the first version"
    )


class PredictionList(Listed):
    """Predictions in the order of the split's images."""

    version_id: int = Field(description="Id of the version that answered")
    total: int = Field(description="Number of images that pass the filters, on all pages")
    items: list[ImagePrediction] = Field(description="The predictions")
