"""Patches and their requests."""

from __future__ import annotations

from paintbox_client.records import Record
from paintbox_client.resources.jobs import Job, JobBrief, JobError
from paintbox_client.resources.reports import PatchReport
from paintbox_client.resources.scores import AlphaPoint
from paintbox_client.resources.versions import BaseBrief, Version


class FinetuneOptions(Record):
    """Fine-tuning settings; omitted ones are the base's own defaults."""

    iterations: int | None
    batch_size: int | None
    learning_rate: float | None
    warmup_steps: int | None
    weight_decay: float | None
    max_grad_norm: float | None
    seed: int | None
    label_smoothing: float | None
    accumulation_steps: int | None
    precision: str | None
    gradient_checkpointing: bool | None
    trainable: str | None
    last_k: int | None
    lora_rank: int | None
    deterministic: bool | None
    patience: int | None
    check_every: int | None
    tune: int | None
    class_balance: str | None


class AlphaOptions(Record):
    """How alpha is chosen, on validation splits."""

    rule: str | None
    max_supported_drop: float | dict[str, float] | None
    max_mean_drop: float | None
    confidence: float | None
    strategy: str
    path: str
    grid_step: float | None
    max_alpha: float | None
    tolerance_points: float | None
    precision: str
    metric: str


class AnchorOptions(Record):
    """Unlabelled images whose features are held in place during fine-tuning: a pool, drawn ones, or both."""

    dataset: str | None
    supported: bool
    drawn: bool
    weight: float
    batch_size: int | None


class StoreOptions(Record):
    """How the task vectors of a patch are stored."""

    bits: str | int


class PatchOptions(Record):
    """The request of a patch, without priority and webhook."""

    name: str
    routing: str
    base: str | None
    method: str
    tasks: list[str]
    supported: list[str]
    transfer: list[str]
    sampling: str
    merge: str
    coefficients: str
    folds: int | None
    keep: str
    extends: str | None
    version: int | None
    forget: list[str]
    finetune: FinetuneOptions
    anchors: AnchorOptions | None
    alpha: AlphaOptions
    store: StoreOptions
    activate: str


class PatchSummary(Record):
    """The result of a patch in a few numbers."""

    alpha: float
    patching_points: float | None
    supported_points: float | None
    certified: bool | None


class PatchBrief(Record):
    """A patch in a list, without request and report; see `Client.patch`."""

    id: str
    name: str
    base: BaseBrief
    job_id: str
    job: JobBrief
    error: JobError | None
    version_id: int | None
    summary: PatchSummary | None
    owner: str | None
    created_at: str


class Patch(PatchBrief):
    """A patch: its request, its job and, when finished, its report."""

    request: PatchOptions
    instant_patch_id: str | None
    report: PatchReport | None


class PatchStarted(Record):
    """A patch that was accepted, and the job to watch."""

    patch: Patch
    job: Job


class Reselected(Record):
    """A version at another alpha, and its validation scores."""

    version: Version
    is_new: bool
    alpha: float
    profile: str
    rule: str | None
    reason: str
    validation: AlphaPoint | None


class PatchCurve(Record):
    """The validation scores at one alpha of a patch's path."""

    patch_id: str
    profile: str
    nodes: list[float]
    point: AlphaPoint


class ChangedImage(Record):
    """A validation image whose answer is not the same at two alphas."""

    index: int
    name: str | None
    kind: str
    label: str
    before: str
    after: str
    margin_before: float
    margin_after: float


class CheckedDataset(Record):
    """A data set that a patch would use; `images` by split."""

    id: str
    name: str
    role: str
    num_classes: int | None
    images: dict[str, int]


class ImagesNeeded(Record):
    """How many validation images certify a limit; without a data set, that of the mean of all supported tasks."""

    dataset: str | None
    max_drop: float
    num_images: int
    images_needed: int
    is_enough: bool


class PatchEstimate(Record):
    """How long a patch takes, judged by earlier ones."""

    seconds: float
    low: float
    high: float
    num_patches: int


class PatchCheck(Record):
    """What a request for a patch would do."""

    request: PatchOptions
    base: BaseBrief
    datasets: list[CheckedDataset]
    num_steps: int | None
    estimate: PatchEstimate | None
    memory_bytes: int | None
    flip_rate: float | None
    certification: list[ImagesNeeded]
    warnings: list[str]
