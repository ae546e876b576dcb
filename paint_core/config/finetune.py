"""The settings of a fine-tuning run, with the paper's values."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from paint_core.config.precision import RunPrecision
from paint_core.errors import ConfigError

Trainable = Literal["all", "last_k", "lora"]
ClassBalance = Literal["none", "sampling", "loss"]


class _Tenth(int):
    """A default number of warm-up steps: it follows the number of iterations."""


@dataclass(frozen=True)
class FinetuneConfig:
    """How to fine-tune; the defaults are PAINT's (arXiv 2208.05592, section 2 and the authors' code).

    Attributes:
        iterations: number of optimizer steps, >= 1.
        batch_size: images a step, >= 1; over all processes and micro-batches together.
        learning_rate: AdamW's peak rate, > 0.
        warmup_steps: linear warm-up, 0 <= warmup_steps < iterations; left out: a tenth of the iterations, also
            of a copy that `dataclasses.replace` makes with other iterations.
        weight_decay: AdamW's, >= 0, on every parameter that learns.
        max_grad_norm: gradients are scaled down to this norm, > 0.
        crop_scale: RandomResizedCrop's range of areas, 0 < low <= high <= 1; (1, 1) turns augmentation off.
        seed: of data order, crops and stochastic layers, >= 0.
        precision: `fp32`, `bf16` for autocast (weights and optimizer stay float32), or `auto` for bf16 where the
            device computes it in hardware.
        label_smoothing: share of the target spread over all classes, in [0, 1).
        accumulation_steps: micro-batches a step, for less memory; divides `batch_size`, and `anchor_batch_size` if
            there are anchors.
        gradient_checkpointing: recompute activations in the backward pass: less memory, about a third more time.
        trainable: `all` parameters of the image tower, those of the `last_k` blocks and what follows them, or low-rank
            updates (`lora`; Hu et al., ICLR 2022, arXiv 2106.09685).
        last_k: number of blocks, >= 1; given if and only if `trainable` is `last_k`.
        lora_rank: of the updates, >= 1; used if `trainable` is `lora`.
        lora_alpha: the updates are multiplied by lora_alpha / lora_rank, > 0; None means lora_rank, a factor of 1.
        deterministic: only algorithms that give the same bits every time, also on a GPU; slower.
        anchor_weight: factor of the anchor loss, >= 0; 0 means no anchors (`training/anchoring.py`).
        anchor_batch_size: anchor images a step, >= 1.
        class_balance: `none`: classes count by their images; `sampling` draws every class equally often; `loss` weights
            each image's loss by the inverse of its class's images (`training/class_balance.py`).
        patience: early stopping: evaluations on the validation split without an improvement after which a run ends,
            >= 1; the best weights are kept. None: no early stopping, the last weights are kept.
        check_every: steps between two of these evaluations, >= 1.
    """

    iterations: int = 2000
    batch_size: int = 128
    learning_rate: float = 1e-5
    warmup_steps: int = _Tenth(0)
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    crop_scale: tuple[float, float] = (0.9, 1.0)
    seed: int = 0
    precision: RunPrecision = "fp32"
    label_smoothing: float = 0.0
    accumulation_steps: int = 1
    gradient_checkpointing: bool = False
    trainable: Trainable = "all"
    last_k: int | None = None
    lora_rank: int = 8
    lora_alpha: float | None = None
    deterministic: bool = False
    anchor_weight: float = 0.0
    anchor_batch_size: int = 64
    class_balance: ClassBalance = "none"
    patience: int | None = None
    check_every: int = 20

    def __post_init__(self) -> None:
        if isinstance(self.warmup_steps, _Tenth):
            object.__setattr__(self, "warmup_steps", _Tenth(max(self.iterations, 0) // 10))
        object.__setattr__(self, "crop_scale", tuple(self.crop_scale))
        self._require_recipe()
        self._require_memory_options()
        self._require_trainable()
        self._require_anchors()

    def _require_recipe(self) -> None:
        _require("iterations", self.iterations, self.iterations >= 1, "at least 1")
        _require("batch_size", self.batch_size, self.batch_size >= 1, "at least 1")
        _require("learning_rate", self.learning_rate, _positive(self.learning_rate), "a finite number above 0")
        fits = 0 <= self.warmup_steps < self.iterations
        _require("warmup_steps", self.warmup_steps, fits, f"in 0..{self.iterations - 1}, below iterations, or left out")
        _require("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "a finite number >= 0")
        _require("max_grad_norm", self.max_grad_norm, _positive(self.max_grad_norm), "a finite number above 0")
        _require("seed", self.seed, self.seed >= 0, "at least 0")
        _require("precision", self.precision, self.precision in get_args(RunPrecision), "'fp32', 'bf16' or 'auto'")
        _require("label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "in [0, 1)")
        scale = self.crop_scale
        _require("crop_scale", scale, len(scale) == 2 and 0 < scale[0] <= scale[-1] <= 1, "(low, high) in (0, 1]")

        balances = get_args(ClassBalance)
        _require("class_balance", self.class_balance, self.class_balance in balances, "'none', 'sampling' or 'loss'")

        _require("patience", self.patience, self.patience is None or self.patience >= 1, "at least 1, or left out")
        _require("check_every", self.check_every, self.check_every >= 1, "at least 1")

    def _require_memory_options(self) -> None:
        steps = self.accumulation_steps
        _require("accumulation_steps", steps, steps >= 1, "at least 1")
        _require(
            "accumulation_steps", steps, self.batch_size % steps == 0, f"a divisor of batch_size {self.batch_size}"
        )

    def _require_trainable(self) -> None:
        _require("trainable", self.trainable, self.trainable in get_args(Trainable), "'all', 'last_k' or 'lora'")
        if self.trainable == "last_k":
            _require("last_k", self.last_k, self.last_k is not None and self.last_k >= 1, "at least 1")
        else:
            _require("last_k", self.last_k, self.last_k is None, "left out unless trainable is 'last_k'")
        _require("lora_rank", self.lora_rank, self.lora_rank >= 1, "at least 1")
        alpha_holds = self.lora_alpha is None or _positive(self.lora_alpha)
        _require("lora_alpha", self.lora_alpha, alpha_holds, "a finite number above 0, or left out")

    def _require_anchors(self) -> None:
        size, steps = self.anchor_batch_size, self.accumulation_steps
        _require("anchor_weight", self.anchor_weight, 0 <= self.anchor_weight < math.inf, "a finite number >= 0")
        _require("anchor_batch_size", size, size >= 1, "at least 1")
        if self.anchor_weight > 0:
            _require("anchor_batch_size", size, size % steps == 0, f"a multiple of accumulation_steps {steps}")


def _positive(value: float) -> bool:
    return 0 < value < math.inf


def _require(name: str, value: object, holds: bool, rule: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is {value!r} but must be {rule}: correct it")
