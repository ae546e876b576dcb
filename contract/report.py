"""The report of a patch: what was chosen and why, how good it is, and what it changed; see docs/report.md."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from contract.environment import Environment, FinetuneSettings
from contract.recorded import Recorded
from contract.scores import AlphaPoint, SplitScore, TaskAccuracyChange, TaskRole
from contract.storage import VectorStorage

_SHA256 = "SHA-256 of the task vector or head term, 64 hexadecimal digits"
_STORAGE = "How the task vector is stored; null in older reports"
_KEY = "Name of the task vector within the report"
_PROFILE = "how coefficients vary with depth, `flat`, `lines` or `lines_paper`; `head`: a head term, which has no depth"
_REASON = "Why this alpha was chosen, in one sentence"
_CERTIFICATE = "With rule `certified`: what is guaranteed about the supported tasks"
_GUARANTEE = "What the rule guarantees about the supported tasks at the chosen alpha, in one sentence"
_MEAN_COSINE = "Mean cosine of the base's and the version's embedding of the same image, -1 to 1"
_IS_LAST = "Whether the chosen alpha is the last one that was evaluated, so that a larger one might be better still"


class ReportTerm(Recorded):
    """One term of the patch: coefficient × profile × task vector."""

    key: str = Field(description=_KEY)
    task_vector_sha256: str = Field(description=_SHA256)
    coefficient: float = Field(description="Factor of the task vector")
    profile: str = Field(description=f"The profile: {_PROFILE}")
    storage: VectorStorage | None = Field(default=None, description=_STORAGE)


class ReportDirection(Recorded):
    """A task vector that alpha scales."""

    key: str = Field(description=_KEY)
    task_vector_sha256: str = Field(description=_SHA256)
    weight: float = Field(description="The term's coefficient is this weight × alpha")


class DropBound(Recorded):
    """How far supported tasks may have dropped against the base, by their validation images."""

    dataset_id: str | None = Field(description="Id of the data set; null: the mean over all supported tasks")
    drop_points: float = Field(description="The observed drop in percentage points; negative if it is a gain")
    low_points: float = Field(description="Lower bound of the true drop; holds with the certificate's confidence")
    high_points: float = Field(description="Upper bound of the true drop; holds with the certificate's confidence")
    limit_points: float = Field(description="Percentage points that it may drop, 0 or more")
    certified: bool = Field(description="Whether the true drop is within the limit, with that confidence")


class Certificate(Recorded):
    """What rule `certified` guarantees about the supported tasks, for images like the validation images."""

    stance: Literal["certified", "no_evidence_of_drop"] = Field(
        description="`certified`: every drop is within its limit, with the confidence; `no_evidence_of_drop`: the "
        "validation images are too few to show that, and do not show the contrary"
    )
    confidence: float = Field(description="Confidence of each statement, such as 0.95")
    bounds: tuple[DropBound, ...] = Field(description="One for each limit")
    images_needed: int | None = Field(
        default=None,
        description="With `no_evidence_of_drop`: validation images that would certify a patch without any drop, with a "
        "probability of 80 %; of the task, or of all supported tasks together for their mean. Null with a limit of 0, "
        "which only a gain certifies",
    )


class ReportCoefficients(Recorded):
    """The search for one coefficient per task, which decides in place of alpha."""

    coefficients: tuple[float, ...] = Field(
        description="The best coefficients that were found, one per direction, each 0 to 1.5"
    )
    value: float = Field(description="What the rule maximises, at these coefficients, 0 to 1")
    start: tuple[float, ...] = Field(description="Coefficients at which the search started: the best common alpha")
    start_value: float = Field(description="What the rule maximises, at the start; never above `value`")
    num_evaluations: int = Field(description="Number of coefficient vectors that were evaluated, without the start")


class ReportStage(Recorded):
    """One search for alpha on validation splits; a sequential patch has one per task, every other patch has one."""

    key: str = Field(description="`joint`, `parallel`, or `task:` and a data set id")
    rule: Literal["combined", "floor", "certified"] = Field(description="The rule that chose alpha")
    strategy: Literal["grid", "interpolated"] | None = Field(
        default=None, description="Whether every alpha was evaluated, or some were predicted"
    )
    alpha: float = Field(description="The chosen alpha, at least 0; 0: no acceptable patch was found")
    profile: str = Field(description=f"The chosen profile: {_PROFILE}")
    reason: str = Field(description=_REASON)
    alpha_is_last: bool | None = Field(default=None, description=_IS_LAST)
    guarantee: str | None = Field(default=None, description=_GUARANTEE)
    certificate: Certificate | None = Field(default=None, description=_CERTIFICATE)
    patching: tuple[str, ...] = Field(description="Ids of the data sets to improve on")
    supported: tuple[str, ...] = Field(description="Ids of the data sets that must not get worse")
    directions: tuple[ReportDirection, ...] = Field(default=(), description="The task vectors that alpha scales")
    fixed: tuple[ReportTerm, ...] = Field(
        default=(), description="Terms of the stages before, which alpha leaves alone"
    )
    coefficients: ReportCoefficients | None = Field(
        default=None, description="With `coefficients: per_task`: the search that decided in place of alpha"
    )
    curves: dict[str, tuple[AlphaPoint, ...]] = Field(
        description="The validation scores along alpha, rising, by profile: one curve for each profile that was tried"
    )
    num_forwards: int | None = Field(
        default=None, description="Number of alphas at which all images were encoded, apart from 0, over all profiles"
    )


class SplitImages(Recorded):
    """The images of one split."""

    num_images: int = Field(description="Number of images")
    taken_from: str | None = Field(
        description="What they were called in the upload, if not this split: `train`, `validation`, `test` "
        "or `all images`; null: this split"
    )


class ValidationScores(Recorded):
    """A task's scores on its validation split. Slightly optimistic at the chosen alpha, because they chose it."""

    zero_shot: SplitScore | None = Field(description="With the base; null: no curve begins there")
    fine_tuned: SplitScore | None = Field(
        default=None, description="With the fine-tuned weights, alpha 1; null: no curve passes there"
    )
    patched: SplitScore | None = Field(
        default=None,
        description="With the patch; null: the coefficients are not on a curve, or their curve judges other lists of "
        "labels",
    )


class TransferScores(Recorded):
    """Scores on a test split that took no part in any choice."""

    zero_shot: SplitScore = Field(description="With the base")
    fine_tuned: SplitScore = Field(
        description="With the end of the path, without interpolation: the fine-tuned weights; for `parallel` the plain "
        "merge; for `sequential` every term in full"
    )
    patched: SplitScore = Field(description="With the patch")


class HeldOutScores(TransferScores):
    """Scores of a task on its test split, which took no part in any choice."""

    specialised: SplitScore | None = Field(
        default=None,
        description="With the model that was fine-tuned on this task alone; null: the method trains no such model",
    )


class UnionScores(Recorded):
    """Scores on a list of labels that holds the classes of a supported task and those of the patching tasks."""

    num_classes: int = Field(description="Number of labels in the list")
    zero_shot: SplitScore = Field(description="With the base")
    patched: SplitScore = Field(description="With the patch")


class ReportTransfer(Recorded):
    """The effect of the patch on a task that took no part in it."""

    dataset_id: str = Field(description="Id of the data set")
    name: str = Field(description="Name of the data set")
    num_classes: int | None = Field(default=None, description="Number of classes")
    decoder: int | None = Field(
        default=None, description="Version of the rules by which its images are decoded, 1 or higher"
    )
    images: dict[str, SplitImages] = Field(default={}, description="The images that were used, by split")
    test: TransferScores = Field(description="Scores on the test split")
    change: TaskAccuracyChange | None = Field(
        default=None, description="The accuracy on the test split with the patch, minus that of the base"
    )


class ReportTask(Recorded):
    """How good the patch is on one of its tasks."""

    dataset_id: str = Field(description="Id of the data set")
    name: str = Field(description="Name of the data set")
    role: TaskRole = Field(description="`patching`: to be improved; `supported`: must not get worse")
    num_classes: int | None = Field(default=None, description="Number of classes")
    decoder: int | None = Field(
        default=None, description="Version of the rules by which its images are decoded, 1 or higher"
    )
    images: dict[str, SplitImages] = Field(default={}, description="The images that were used, by split")
    validation: ValidationScores = Field(description="Scores on the validation split, which chose alpha")
    test: HeldOutScores = Field(description="Scores on the test split, which chose nothing: the ones to quote")
    change: TaskAccuracyChange | None = Field(
        default=None, description="The accuracy on the test split with the patch, minus that of the base"
    )
    test_on_union: UnionScores | None = Field(
        default=None,
        description="Of a supported task: scores on the test split when the labels of the patching tasks are "
        "candidates, too, as in the lists of users who need both",
    )


class BlockUpdate(Recorded):
    """How far one block of the image tower moved."""

    cosine: float = Field(description="Cosine between the block's weights before and after, -1 to 1; 1: not moved")
    relative_norm: float = Field(description="Norm of the change over the norm of the weights before, at least 0")


class ReportUpdate(Recorded):
    """How far fine-tuning moved the weights of the image tower, before alpha scales the change."""

    cosine: float = Field(description="Cosine between all weights before and after, -1 to 1; 1: not moved")
    relative_norm: float = Field(description="Norm of the change over the norm of the weights before, at least 0")
    blocks: dict[str, BlockUpdate] = Field(default={}, description="The same for each block, in the order of depth")


class ReportInstant(Recorded):
    """How well an instant patch fits its task."""

    num_images: int = Field(description="Number of training images of the tasks to improve")
    num_used: int = Field(
        description="Number of these that the head term holds the features of, at most 4,096; with statistics, all "
        "images that it has seen"
    )
    leave_one_out_accuracy: float | None = Field(
        description="Share of the images that the fit to all other images classifies correctly, 0 to 1; null: no class "
        "has several images"
    )
    keep: Literal["features", "statistics"] = Field(
        default="features",
        description="Whether the head term holds the features of its images, or only statistics of each class",
    )
    gamma: float | None = Field(
        description="Width of the kernel: exp(-gamma × squared distance of unit features); null with statistics"
    )
    ridge: float | None = Field(description="Regularisation of the linear equation; null with statistics")
    features_fit: Literal["good", "poor", "unknown"] = Field(
        description="`poor`: less than 60 % by leave-one-out, so the image tower has no features for the task, and "
        "fine-tuning (another method) is likely to do much better; `unknown`: no class has several images"
    )
    advice: str | None = Field(description="What to do, if the fit is not good; null: nothing")


class ReportCandidate(Recorded):
    """One way to patch that method `auto` has tried, on validation splits, every task under its own labels."""

    way: Literal["instant", "finetuned", "stacked"] = Field(
        description="`instant`: a head term alone; `finetuned`: with anchors; `stacked`: a head term that was "
        "fitted to the fine-tuned weights at a fraction of their alpha"
    )
    alpha: float = Field(description="The coefficient that its last search chose")
    weights_alpha: float = Field(description="The alpha of the fine-tuned weights; 0: the weights of the base")
    value: float = Field(description="What the rule maximises, 0 to 1")
    patching: float = Field(description="Mean accuracy over the tasks to improve, 0 to 1")
    supported: float | None = Field(description="Mean accuracy over the supported tasks, 0 to 1; null: there are none")
    certified: bool = Field(description="With rule `certified`: whether all of its searches ended with a certificate")
    kept: bool = Field(description="Whether it is the patch")


class ReportTrial(Recorded):
    """One fine-tuning of a search over learning rate and iterations, judged on validation splits."""

    number: int = Field(description="1 and up, in the order in which they were tried")
    learning_rate: float = Field(description="Peak learning rate")
    iterations: int = Field(description="Number of optimizer steps")
    alpha: float | None = Field(default=None, description="The alpha that the rule chose; null: the trial failed")
    patching: float | None = Field(
        default=None, description="Mean validation accuracy of the tasks to improve at that alpha, 0 to 1"
    )
    supported: float | None = Field(
        default=None, description="Mean validation accuracy of the supported tasks at that alpha, 0 to 1"
    )
    failure: str | None = Field(
        default=None,
        description="Why the trial has no alpha: it diverged, or no alpha was acceptable; null: it has one",
    )
    chosen: bool = Field(description="Whether it is the patch: the best by the rule, among equals the first")


class ReportActivation(Recorded):
    """Whether the new version became active by itself."""

    asked: Literal["if_accepted", "if_certified"] = Field(description="What the request asked for")
    accepted: bool = Field(description="Whether the alias `active` was moved to the version")
    reason: str = Field(description="Why, or why not")


class TaskCompatibility(Recorded):
    """How far the base's embeddings of a task's validation images stay usable; recall over the index of all tasks."""

    dataset_id: str = Field(description="Id of the data set")
    name: str = Field(description="Name of the data set")
    num_images: int = Field(description="Validation images that were compared, at most 2,000 of a task")
    mean_cosine: float = Field(description=_MEAN_COSINE)
    recall: float = Field(description="Mean recall of these images as queries, 0 to 1")


class EmbeddingCompatibility(Recorded):
    """How far an index of the base's image embeddings stays usable for queries that the version embeds."""

    neighbours: int = Field(description="Number of nearest neighbours that recall looks at: 10, or all other images")
    num_images: int = Field(description="Validation images of all tasks together: the index, and the queries")
    mean_cosine: float = Field(description=_MEAN_COSINE)
    recall: float = Field(
        description="Mean over the images, 0 to 1: of the nearest neighbours that the base finds for an image among "
        "the base's embeddings of the others, the share that the version finds with its own embedding of the image"
    )
    tasks: tuple[TaskCompatibility, ...] = Field(description="The same by task")


class PatchReport(Recorded):
    """The results of a patch. Accuracies are shares, 0 to 1; fields that end in `_points` are percentage points."""

    method: Literal["single", "joint", "sequential", "parallel", "instant", "auto"] | None = Field(
        default=None, description="How the tasks were patched"
    )
    rule: Literal["combined", "floor", "certified"] | None = Field(
        default=None, description="The rule that chose alpha"
    )
    alpha: float = Field(
        description="The chosen alpha of the last search, at least 0; 0: no acceptable patch was found"
    )
    profile: str | None = Field(default=None, description=f"The chosen profile: {_PROFILE}")
    reason: str = Field(description=_REASON)
    alpha_is_last: bool | None = Field(default=None, description=_IS_LAST)
    guarantee: str | None = Field(default=None, description=_GUARANTEE)
    certificate: Certificate | None = Field(default=None, description=_CERTIFICATE)
    terms: tuple[ReportTerm, ...] = Field(default=(), description="The patch: what is added to the base")
    stages: tuple[ReportStage, ...] = Field(default=(), description="The searches for alpha, in their order")
    curve: tuple[AlphaPoint, ...] = Field(
        default=(), description="The validation scores along alpha of the last search, for the chosen profile"
    )
    tasks: tuple[ReportTask, ...] = Field(description="Results by task: those to improve, then the supported ones")
    transfer: tuple[ReportTransfer, ...] = Field(
        default=(), description="Results by data set that took no part in the patch (broad transfer)"
    )
    update: ReportUpdate | None = Field(default=None, description="How far fine-tuning moved the weights")
    distance_to_optimal_points: float | None = Field(
        default=None,
        description="Percentage points that one common alpha costs, at least 0: the mean of the best supported and the "
        "best patching accuracy on the curve, each at its own alpha, minus the best combined one",
    )
    distance_to_specialised_points: float | None = Field(
        default=None,
        description="Mean percentage points by which models fine-tuned on one task each are better on that task's test "
        "split; null: the method trains no such models",
    )
    finetune: FinetuneSettings | None = Field(default=None, description="The complete settings of fine-tuning")
    trials: tuple[ReportTrial, ...] = Field(
        default=(), description="With `tune`: the trials of learning rate and iterations; `finetune` is the chosen one"
    )
    notes: tuple[str, ...] = Field(default=(), description="Sentences to know before you quote the figures")
    interpolants: dict[str, str] = Field(
        default={},
        description="SHA-256 of the stored features along alpha, by profile; `GET /v1/patches/{id}/curve` and "
        "`reselect` predict other alphas from them. Empty with folds",
    )
    final_losses: dict[str, float | None] = Field(
        default={}, description="Loss of the last step of each fine-tuning run, in nats, by key"
    )
    timings_seconds: dict[str, float] = Field(
        default={}, description="Seconds that each stage of the job took, by stage"
    )
    environment: Environment | None = Field(default=None, description="Code, libraries and hardware of the worker")
    instant: ReportInstant | None = Field(
        default=None, description="With `method: instant` or `auto`: how well the head term fits the task"
    )
    candidates: tuple[ReportCandidate, ...] = Field(
        default=(), description="With `method: auto`: the ways that were tried, in this order"
    )
    embeddings: EmbeddingCompatibility | None = Field(
        default=None,
        description="How far an index of the base's image embeddings stays usable; null: there is only one image",
    )
    activation: ReportActivation | None = Field(default=None, description="The decision on `activate`; null: `never`")
    version_id: int | None = Field(default=None, description="Id of the version that the patch made")
    task_vector_sha256: str | None = Field(
        default=None, description=f"{_SHA256}, in reports of the first release; see `terms`"
    )
