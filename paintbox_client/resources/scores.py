"""Scores, evaluations, and the environment that they were measured in."""

from __future__ import annotations

from paintbox_client.records import Record


class SplitScore(Record):
    """The score of one model on the images of one split."""

    correct: float
    total: int
    accuracy: float | None
    low: float | None
    high: float | None
    loss: float | None
    ece: float | None
    correct_top5: float | None
    balanced_accuracy: float | None
    macro_f1: float | None
    lost: int | None
    gained: int | None


class ClassAccuracyChange(Record):
    """The change on the images of one class."""

    change_points: float
    low_points: float
    high_points: float
    p_value: float
    classname: str
    total: int
    before: int
    after: int
    before_interval: list[float]
    after_interval: list[float]
    adjusted_p_value: float | None


class AccuracyChange(Record):
    """The accuracy of a patched model minus that of the base, on the same images."""

    change_points: float
    low_points: float
    high_points: float
    p_value: float


class TaskAccuracyChange(Record):
    """The change on all images of a test split, and class by class."""

    change_points: float
    low_points: float
    high_points: float
    p_value: float
    classes: list[ClassAccuracyChange]


class AlphaPoint(Record):
    """One point of a curve: the validation scores at one alpha."""

    alpha: float
    combined: float | None
    patching: float | None
    supported: float | None
    measured: bool
    tasks: dict[str, SplitScore]


class EvaluatedTask(Record):
    """The scores of one task with the base and with the version."""

    dataset_id: str
    name: str
    role: str
    zero_shot: SplitScore
    patched: SplitScore
    change: AccuracyChange | None


class Evaluation(Record):
    """Scores of a version, the split that they were measured on, and the allowed drop of supported tasks."""

    split: str
    max_supported_drop: float | dict[str, float] | None
    max_mean_drop: float | None
    tasks: list[EvaluatedTask]


class Environment(Record):
    """Code, libraries and hardware; with the same of all of it, the same computation gives the same bits."""

    code_sha256: str | None
    python: str | None
    libraries: dict[str, str]
    machine: str | None
    cpu_capability: str | None
    device: str | None
    cuda: str | None
    cudnn: int | None
    num_threads: int | None


class FinetuneSettings(Record):
    """The complete settings of a fine-tuning run: the request's, and the base's own where it set none."""

    iterations: int | None
    batch_size: int | None
    learning_rate: float | None
    warmup_steps: int | None
    weight_decay: float | None
    max_grad_norm: float | None
    crop_scale: list[float] | None
    seed: int | None
    precision: str | None
    label_smoothing: float | None
    accumulation_steps: int | None
    gradient_checkpointing: bool | None
    trainable: str | None
    last_k: int | None
    lora_rank: int | None
    lora_alpha: float | None
    deterministic: bool | None
    anchor_weight: float | None
    anchor_batch_size: int | None
    final_loss: float | None
    patience: int | None
    check_every: int | None
    class_balance: str | None


class VectorStorage(Record):
    """The form in which a task vector is stored."""

    bits: int
    loss_points: float | None


class AlphaSettings(Record):
    """The complete settings of a search for alpha."""

    rule: str | None
    max_supported_drop: float | dict[str, float] | None
    max_mean_drop: float | None
    confidence: float | None
    strategy: str | None
    path: str | None
    step: float | None
    max_alpha: float | None
    max_flat_alpha: float | None
    nodes: list[float] | None
    tolerance_points: float | None
    precision: str | None
    used_precision: str | None
    precision_reason: str | None
    metric: str | None
