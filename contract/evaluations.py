"""Evaluations on request: the body of `POST /v1/evaluations`, and what is recorded of the images that were judged."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from contract.bodies import AliasName, Body, Id, VersionNumber, WebhookUrl
from contract.datasets import Split
from contract.jobs import PriorityName
from contract.labels import Labels, Templates
from contract.names import Name
from contract.recorded import Recorded
from contract.scores import AccuracyChange, SplitScore

MAX_VERSIONS = 32
MAX_LABELS = 30_000
MAX_CELLS = 10_000
"""Cells of a confusion matrix that are recorded, the largest ones."""


class EvaluationOptions(Body):
    """The request of an evaluation, without priority and webhook."""

    name: Name | None = Field(default=None, description="Display name. Default: the data set's name and split")
    versions: tuple[VersionNumber | AliasName, ...] = Field(
        fail_fast=True,
        min_length=1,
        max_length=MAX_VERSIONS,
        description="Ids or aliases of the versions to evaluate, all of one base; the others are compared with the "
        "first one",
    )
    dataset: Id = Field(description="Id of a data set. Of a pool of unlabelled images, `labels` are predicted")
    split: Split | None = Field(
        default=None, description="Which of its images. Default: `test`; of a pool `train`, its only split"
    )
    labels: Annotated[Labels, Field(max_length=MAX_LABELS)] | None = Field(
        default=None,
        description="Candidate labels in place of the data set's classes; they must contain every class that the "
        "images have. Required for a pool",
    )
    templates: Templates | None = Field(
        default=None, description="Prompt templates with `{}`. Default: the data set's, or the base model's own"
    )


class EvaluationRequest(EvaluationOptions):
    """Body of `POST /v1/evaluations`."""

    priority: PriorityName = Field(
        default="normal", description="Which of the waiting jobs is taken first; `high` requires the scope `admin`"
    )
    webhook_url: WebhookUrl | None = Field(
        default=None, description="URL that is sent a message when the job has ended"
    )

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        if len(set(self.versions)) < len(self.versions):
            raise ValueError("versions must name each version once")
        if self.labels is not None and (not self.labels or len(set(self.labels)) < len(self.labels)):
            raise ValueError("labels must be at least one, each once")
        return self


class ClassScore(Recorded):
    """The results on the images of one class, and on those that were taken for it."""

    classname: str = Field(description="The class")
    total: int = Field(description="Number of images of the class, at least 0")
    correct: int = Field(description="Number of them that were classified correctly, 0 to `total`")
    predicted: int = Field(description="Number of images that were classified as this class")
    low: float | None = Field(
        default=None, description="Lower end of the 95 % confidence interval (Wilson) of `correct / total`, 0 to 1"
    )
    high: float | None = Field(default=None, description="Upper end of that interval, 0 to 1")
    f1: float | None = Field(
        default=None, description="Harmonic mean of precision and recall, 0 to 1; null: no image has this class"
    )


class ConfusionCell(Recorded):
    """How many images of one class were classified as one class. Cells that are not listed hold no image."""

    classname: str = Field(description="Class of the images")
    predicted: str = Field(description="Class that was predicted")
    count: int = Field(description="Number of images, at least 1")


class Measurement(Recorded):
    """What a model answered to the labelled images of a split."""

    score: SplitScore = Field(description="Accuracy, top-5 accuracy, loss and calibration")
    macro_f1: float = Field(description="Mean F1 over the classes that have images, 0 to 1")
    classes: tuple[ClassScore, ...] = Field(description="By class, in the order of the labels")
    confusion: tuple[ConfusionCell, ...] = Field(
        description=f"The confusion matrix without its zeros, largest counts first, at most {MAX_CELLS:,}"
    )


class EvaluatedVersion(Recorded):
    """One version's result."""

    version_id: int = Field(description="Id of the version")
    weights_fingerprint: str = Field(description="Fingerprint of its image tower's weights")
    measurement_id: str = Field(description="Id of what was measured; versions of the same weights share it")
    num_images: int = Field(description="Number of images that were judged, at least 1")
    measurement: Measurement | None = Field(default=None, description="The scores; null: the images have no labels")
    was_known: bool = Field(
        default=False, description="Whether these weights had been measured before on these images and labels"
    )


class VersionComparison(Recorded):
    """A version against the first one of the evaluation, image by image."""

    version_id: int = Field(description="Id of the version")
    against: int = Field(description="Id of the version that it is compared with")
    changed: int = Field(description="Number of images with another answer")
    lost: int | None = Field(
        default=None, description="Number of images that only the other version classifies correctly; null: no labels"
    )
    gained: int | None = Field(default=None, description="Number of images that only this version classifies correctly")
    change: AccuracyChange | None = Field(
        default=None, description="Change of the accuracy against the other version; null: no labels"
    )


class EvaluationReport(Recorded):
    """The results of an evaluation."""

    labels: tuple[str, ...] = Field(description="The labels that the images were compared with")
    templates: tuple[str, ...] = Field(description="The prompt templates")
    versions: tuple[EvaluatedVersion, ...] = Field(description="One entry per version, in the order of the request")
    comparisons: tuple[VersionComparison, ...] = Field(
        default=(), description="Each version but the first against the first one"
    )
    warnings: tuple[str, ...] = Field(default=(), description="What limits the results, each with its remedy")
    timings_seconds: dict[str, float] = Field(default={}, description="Seconds by stage: `decode`, `evaluate`")
