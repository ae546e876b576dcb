"""Evaluations, and the predictions that they keep."""

from __future__ import annotations

from paintbox_client.records import Record
from paintbox_client.resources.jobs import Job, JobBrief, JobError
from paintbox_client.resources.scores import SplitScore


class EvaluationOptions(Record):
    """The request of an evaluation, without priority and webhook."""

    name: str | None
    versions: list[int | str]
    dataset: str
    split: str | None
    labels: list[str] | None
    templates: list[str] | None


class ClassScore(Record):
    """The results on the images of one class, and on those that were taken for it."""

    classname: str
    total: int
    correct: int
    predicted: int
    low: float | None
    high: float | None
    f1: float | None


class ConfusionCell(Record):
    """How many images of one class were classified as one class."""

    classname: str
    predicted: str
    count: int


class Measurement(Record):
    """What a model answered to the labelled images of a split."""

    score: SplitScore
    macro_f1: float
    classes: list[ClassScore]
    confusion: list[ConfusionCell]


class EvaluatedVersion(Record):
    """One version's result."""

    version_id: int
    weights_fingerprint: str
    measurement_id: str
    num_images: int
    measurement: Measurement | None
    was_known: bool


class AccuracyChange(Record):
    """A change of the accuracy on the same images."""

    change_points: float
    low_points: float
    high_points: float
    p_value: float


class VersionComparison(Record):
    """A version against the first one of the evaluation, image by image."""

    version_id: int
    against: int
    changed: int
    lost: int | None
    gained: int | None
    change: AccuracyChange | None


class EvaluationReport(Record):
    """The results of an evaluation."""

    labels: list[str]
    templates: list[str]
    versions: list[EvaluatedVersion]
    comparisons: list[VersionComparison]
    warnings: list[str]
    timings_seconds: dict[str, float]


class EvaluationBrief(Record):
    """An evaluation in a list, without request and report; see `Client.evaluation`."""

    id: str
    name: str
    version_ids: list[int]
    dataset_id: str
    split: str
    job_id: str
    job: JobBrief
    error: JobError | None
    owner: str | None
    created_at: str


class EvaluationResource(EvaluationBrief):
    """An evaluation: its request, its job and, when finished, its report."""

    request: EvaluationOptions
    report: EvaluationReport | None


class EvaluationStarted(Record):
    """An evaluation that was accepted, and the job to watch."""

    evaluation: EvaluationResource
    job: Job


class ImagePrediction(Record):
    """The answer of a version to one image."""

    index: int
    image: str
    label: str | None
    predicted: str
    probability: float
    margin: float
    predicted_before: str | None
