"""The settings of a fine-tuning run, with the paper's values."""

import math
from dataclasses import dataclass
from typing import Literal

from paint_core.errors import ConfigError


@dataclass(frozen=True)
class FinetuneConfig:
    """How to fine-tune; the defaults are PAINT's (arXiv 2208.05592, section 2 and the authors' code).

    Attributes:
        iterations: number of optimizer steps, >= 1.
        batch_size: images a step, >= 1.
        learning_rate: AdamW's peak rate, > 0.
        warmup_steps: linear warm-up, 0 <= warmup_steps < iterations.
        weight_decay: AdamW's, >= 0, on every parameter.
        max_grad_norm: gradients are scaled down to this norm, > 0.
        crop_scale: RandomResizedCrop's range of areas, 0 < low <= high <= 1; (1, 1) turns augmentation off.
        seed: of data order, crops and stochastic layers, >= 0.
        precision: `fp32`, or `bf16` for autocast (weights and optimizer stay float32).
    """

    iterations: int = 2000
    batch_size: int = 128
    learning_rate: float = 1e-5
    warmup_steps: int = 200
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    crop_scale: tuple[float, float] = (0.9, 1.0)
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        _require("iterations", self.iterations, self.iterations >= 1, "at least 1")
        _require("batch_size", self.batch_size, self.batch_size >= 1, "at least 1")
        _require("learning_rate", self.learning_rate, _positive(self.learning_rate), "a finite number above 0")
        _require("warmup_steps", self.warmup_steps, 0 <= self.warmup_steps < self.iterations, "in 0..iterations-1")
        _require("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "a finite number >= 0")
        _require("max_grad_norm", self.max_grad_norm, _positive(self.max_grad_norm), "a finite number above 0")
        _require("seed", self.seed, self.seed >= 0, "at least 0")
        _require("precision", self.precision, self.precision in ("fp32", "bf16"), "'fp32' or 'bf16'")
        object.__setattr__(self, "crop_scale", tuple(self.crop_scale))
        scale = self.crop_scale
        _require("crop_scale", scale, len(scale) == 2 and 0 < scale[0] <= scale[-1] <= 1, "(low, high) in (0, 1]")


def _positive(value: float) -> bool:
    return 0 < value < math.inf


def _require(name: str, value: object, holds: bool, rule: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is {value!r} but must be {rule}: correct it")
