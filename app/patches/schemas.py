"""API schemas of patches. That of a request is `contract.patch_request.PatchRequest`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field

from app.access.owner import Owner
from app.http.paging import Listed
from app.http.resources import Resource
from app.jobs.schemas import Job, JobBrief, JobError
from app.versions.schemas import BaseBrief, Version
from contract.patch_request import PatchOptions
from contract.patch_summary import PatchSummary
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
    summary: PatchSummary | None = Field(description="Its result in a few numbers; null: not finished")
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
    instant_patch_id: str | None = Field(
        description="With method `auto`: id of the instant patch that is done before it, in seconds; null: another "
        "method, or it was deleted"
    )
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


class PatchCurve(BaseModel):
    """The validation scores at one alpha of a patch's path."""

    patch_id: str = Field(description="Id of the patch")
    profile: str = Field(description="How alpha varies with depth: `flat`, `lines` or `lines_paper`")
    nodes: tuple[float, ...] = Field(
        description="Alphas whose features are stored, rising from 0; the last one is the end of the path"
    )
    point: AlphaPoint = Field(
        description="The scores of every task. `measured` tells whether the weights at this alpha were evaluated; "
        "otherwise the features of each image are interpolated between the nodes. `lost` and `gained` compare with the "
        "base; null in later stages of a sequential patch, whose alpha 0 is not the base"
    )


class ChangedImage(BaseModel):
    """A validation image whose answer is not the same at two alphas."""

    index: int = Field(description="Row of the image in the validation split, from 0; the order never changes")
    name: str | None = Field(description="Name of the image in the data set; null: the data set has been deleted")
    kind: Literal["lost", "won", "other"] = Field(
        description="`lost`: only the first answer is correct; `won`: only the second one; `other`: neither is"
    )
    label: str = Field(description="The class that is correct")
    before: str = Field(description="The answer at the first alpha")
    after: str = Field(description="The answer at the second alpha")
    margin_before: float = Field(
        description="Cosine of the correct class minus the largest cosine of another class, at the first alpha; "
        "negative if the answer is wrong"
    )
    margin_after: float = Field(description="The same at the second alpha")


class ChangedImages(Listed):
    """A page of the validation images of a task whose answers differ between two alphas, in the order of the split."""

    patch_id: str = Field(description="Id of the patch")
    task: str = Field(description="Id of the data set")
    profile: str = Field(description="How alpha varies with depth: `flat`, `lines` or `lines_paper`")
    from_alpha: float = Field(description="The first alpha")
    to_alpha: float = Field(description="The second alpha")
    from_measured: bool = Field(description="Whether features at the first alpha are stored; false: interpolated")
    to_measured: bool = Field(description="Whether features at the second alpha are stored; false: interpolated")
    num_images: int = Field(description="Number of images in the validation split")
    num_lost: int = Field(description="Number of images that only the first alpha classifies correctly")
    num_won: int = Field(description="Number of images that only the second alpha classifies correctly")
    num_changed: int = Field(description="Number of images whose answer differs, including those that stay wrong")
    items: list[ChangedImage] = Field(description="The images, by increasing index")


class CheckedDataset(BaseModel):
    """A data set that a patch would use."""

    id: str = Field(description="Id of the data set")
    name: str = Field(description="Its name")
    role: Literal["task", "supported", "transfer", "anchors"] = Field(description="What it is used for")
    num_classes: int | None = Field(description="Number of classes; null: a pool without labels")
    images: dict[str, int] = Field(description="Number of images that are used, by split")


class ImagesNeeded(BaseModel):
    """How many validation images it takes to certify that accuracy drops by less than a limit."""

    dataset: str | None = Field(description="Id of the supported task; null: the mean of all supported tasks")
    max_drop: float = Field(description="The limit, in percentage points")
    num_images: int = Field(description="Validation images that there are, of all supported tasks for the mean")
    images_needed: int = Field(
        description="Images with which a patch that costs nothing is certified in four of five cases"
    )
    is_enough: bool = Field(description="Whether `num_images` is at least `images_needed`")


class PatchEstimate(BaseModel):
    """How long a patch takes, judged by patches of the same base that succeeded here."""

    seconds: float = Field(description="Estimate from their median speed, without the wait for a worker")
    low: float = Field(description="Estimate from the fastest of these patches")
    high: float = Field(description="Estimate from the slowest of these patches")
    num_patches: int = Field(description="Number of patches that the estimate is based on, the newest ones")


class PatchCheck(BaseModel):
    """What a request for a patch would do, without doing it."""

    request: Annotated[dict[str, Any], ShapedLike(PatchOptions)] = Field(
        description="The request with every default filled in; those of fine-tuning are the base's, where it is loaded"
    )
    base: BaseBrief = Field(description="The base model")
    datasets: list[CheckedDataset] = Field(description="The data sets that it uses")
    num_steps: int | None = Field(description="Number of optimizer steps; null: the base is not loaded in this process")
    estimate: PatchEstimate | None = Field(
        description="How long it takes; null: no patch of this base has succeeded yet, or the base is not loaded here"
    )
    memory_bytes: int | None = Field(
        description="Memory for weights, gradients, optimizer state and decoded images, without activations, which "
        "depend on the batch size; null: the base is not loaded in this process"
    )
    flip_rate: float | None = Field(
        description="Share of supported images whose answer is expected to change, 0 to 1: the mean over earlier "
        "patches of this base, else 0.04; null: no limit is to be certified"
    )
    certification: list[ImagesNeeded] = Field(description="Images needed for each limit that is to be certified")
    warnings: list[str] = Field(description="Likely problems with the result, the most serious first")
