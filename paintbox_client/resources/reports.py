"""The report of a patch."""

from __future__ import annotations

from paintbox_client.records import Record
from paintbox_client.report_table import summarise
from paintbox_client.resources.scores import (
    AlphaPoint,
    Environment,
    FinetuneSettings,
    SplitScore,
    TaskAccuracyChange,
    VectorStorage,
)


class ReportTerm(Record):
    """One term of the patch: coefficient × profile × task vector."""

    key: str
    task_vector_sha256: str
    coefficient: float
    profile: str
    storage: VectorStorage | None


class ReportDirection(Record):
    """A task vector that alpha scales."""

    key: str
    task_vector_sha256: str
    weight: float


class DropBound(Record):
    """How far supported tasks may have dropped against the base, by their validation images."""

    dataset_id: str | None
    drop_points: float
    low_points: float
    high_points: float
    limit_points: float
    certified: bool


class Certificate(Record):
    """What rule `certified` guarantees about the supported tasks, for images like the validation images."""

    stance: str
    confidence: float
    bounds: list[DropBound]
    images_needed: int | None


class ReportCoefficients(Record):
    """The search for one coefficient per task, which decides in place of alpha."""

    coefficients: list[float]
    value: float
    start: list[float]
    start_value: float
    num_evaluations: int


class ReportStage(Record):
    """One search for alpha on validation splits; a sequential patch has one per task, every other patch has one."""

    key: str
    rule: str
    strategy: str | None
    alpha: float
    profile: str
    reason: str
    alpha_is_last: bool | None
    guarantee: str | None
    certificate: Certificate | None
    patching: list[str]
    supported: list[str]
    directions: list[ReportDirection]
    fixed: list[ReportTerm]
    coefficients: ReportCoefficients | None
    curves: dict[str, list[AlphaPoint]]
    num_forwards: int | None


class SplitImages(Record):
    """The images of one split."""

    num_images: int
    taken_from: str | None


class ValidationScores(Record):
    """A task's scores on its validation split. Slightly optimistic at the chosen alpha, because they chose it."""

    zero_shot: SplitScore | None
    fine_tuned: SplitScore | None
    patched: SplitScore | None


class TransferScores(Record):
    """Scores on a test split that took no part in any choice."""

    zero_shot: SplitScore
    fine_tuned: SplitScore
    patched: SplitScore


class HeldOutScores(Record):
    """Scores of a task on its test split, which took no part in any choice."""

    zero_shot: SplitScore
    fine_tuned: SplitScore
    patched: SplitScore
    specialised: SplitScore | None


class ReportTransfer(Record):
    """The effect of the patch on a task that took no part in it."""

    dataset_id: str
    name: str
    num_classes: int | None
    decoder: int | None
    images: dict[str, SplitImages]
    test: TransferScores
    change: TaskAccuracyChange | None


class UnionScores(Record):
    """Scores on a list of labels that holds the classes of a supported task and those of the patching tasks."""

    num_classes: int
    zero_shot: SplitScore
    patched: SplitScore


class ReportTask(Record):
    """How good the patch is on one of its tasks."""

    dataset_id: str
    name: str
    role: str
    num_classes: int | None
    decoder: int | None
    images: dict[str, SplitImages]
    validation: ValidationScores
    test: HeldOutScores
    change: TaskAccuracyChange | None
    test_on_union: UnionScores | None


class BlockUpdate(Record):
    """How far one block of the image tower moved."""

    cosine: float
    relative_norm: float


class ReportUpdate(Record):
    """How far fine-tuning moved the weights of the image tower, before alpha scales the change."""

    cosine: float
    relative_norm: float
    blocks: dict[str, BlockUpdate]


class ReportInstant(Record):
    """How well an instant patch fits its task."""

    num_images: int
    num_used: int
    leave_one_out_accuracy: float | None
    keep: str
    gamma: float | None
    ridge: float | None
    features_fit: str
    advice: str | None


class ReportCandidate(Record):
    """One way to patch that method `auto` has tried, on validation splits, every task under its own labels."""

    way: str
    alpha: float
    weights_alpha: float
    value: float
    patching: float
    supported: float | None
    certified: bool
    kept: bool


class TaskCompatibility(Record):
    """How far the base's embeddings of a task's validation images stay usable."""

    dataset_id: str
    name: str
    num_images: int
    mean_cosine: float
    recall: float


class EmbeddingCompatibility(Record):
    """How far an index of the base's image embeddings stays usable for queries that the version embeds."""

    neighbours: int
    num_images: int
    mean_cosine: float
    recall: float
    tasks: list[TaskCompatibility]


class ReportTrial(Record):
    """One fine-tuning of a search over learning rate and iterations, judged on validation splits."""

    number: int
    learning_rate: float
    iterations: int
    alpha: float | None
    patching: float | None
    supported: float | None
    failure: str | None
    chosen: bool


class ReportActivation(Record):
    """Whether the new version became active by itself."""

    asked: str
    accepted: bool
    reason: str


class PatchReport(Record):
    """The results of a patch. Accuracies are shares, 0 to 1; fields that end in `_points` are percentage points."""

    method: str | None
    rule: str | None
    alpha: float
    profile: str | None
    reason: str
    alpha_is_last: bool | None
    guarantee: str | None
    certificate: Certificate | None
    terms: list[ReportTerm]
    stages: list[ReportStage]
    curve: list[AlphaPoint]
    tasks: list[ReportTask]
    transfer: list[ReportTransfer]
    distance_to_optimal_points: float | None
    distance_to_specialised_points: float | None
    finetune: FinetuneSettings | None
    trials: list[ReportTrial]
    notes: list[str]
    interpolants: dict[str, str]
    final_losses: dict[str, float | None]
    timings_seconds: dict[str, float]
    environment: Environment | None
    instant: ReportInstant | None
    candidates: list[ReportCandidate]
    embeddings: EmbeddingCompatibility | None
    activation: ReportActivation | None
    version_id: int | None
    task_vector_sha256: str | None

    @property
    def update(self) -> ReportUpdate | None:  # type: ignore[override]
        """How far fine-tuning moved the weights; the name of this field hides the method of dictionaries."""
        found: ReportUpdate | None = self.__getattr__("update")
        return found

    def _repr_html_(self) -> str:
        return summarise(self)
