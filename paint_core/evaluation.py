"""How good an image tower is on labelled images: top-1 accuracy with an interval, and the loss."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paint_core.datasets import LabelledImages
from paint_core.heads import logits
from paint_core.models import BaseModel
from paint_core.preprocess import Preprocess

Precision = Literal["fp32", "bf16"]
_Z_95 = 1.959963984540054  # two-sided 95 % point of the normal distribution


@dataclass(frozen=True)
class Score:
    """A result on one split.

    Attributes:
        correct: images whose best logit is their label's.
        total: images, >= 1.
        loss: mean cross-entropy, in nats.
    """

    correct: int
    total: int
    loss: float

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy in [0, 1]."""
        return self.correct / self.total

    def interval(self) -> tuple[float, float]:
        """The Wilson score interval of the accuracy at 95 % (Wilson 1927), within [0, 1]."""
        share, count, square = self.accuracy, self.total, _Z_95 * _Z_95
        centre = (share + square / (2 * count)) / (1 + square / count)
        half = _Z_95 / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
        # At the ends the bound is exact; rounding must not move it inside.
        low = 0.0 if self.correct == 0 else max(0.0, centre - half)
        high = 1.0 if self.correct == self.total else min(1.0, centre + half)
        return low, high


def encode(
    visual: nn.Module,
    images: Tensor,
    preprocess: Preprocess,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    precision: Precision = "fp32",
) -> Tensor:
    """The features of the images, in eval mode and without gradients; the tower's mode is restored.

    Args:
        visual: the image tower, on `device`.
        images: uint8 [N, S, S, 3].
        preprocess: the model's.
        device: where the tower is.
        batch_size: images at a time, >= 1.
        precision: `fp32`, or `bf16` for autocast.

    Returns:
        float32 [N, D] on `device`, not of unit length; made under inference_mode, so clone it before training on it.
    """
    device = torch.device(device)
    with torch.inference_mode(), eval_mode(visual), autocast(device, precision):
        chunks = [
            visual(preprocess.normalise(images[start : start + batch_size], device)).float()
            for start in range(0, len(images), batch_size)
        ]
        return torch.cat(chunks)


def evaluate(
    visual: nn.Module,
    base: BaseModel,
    head: Tensor,
    images: LabelledImages,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    precision: Precision = "fp32",
) -> Score:
    """The score of an image tower under a head.

    Args:
        visual: the tower to judge, on `device`.
        base: whose preprocessing and logit scale to use.
        head: [C, D], from `build_head`.
        images: the split; its labels index the head's rows.
        device: where the tower is.
        batch_size: images at a time, >= 1.
        precision: `fp32`, or `bf16` for autocast.

    Returns:
        Top-1 and mean cross-entropy.
    """
    features = encode(visual, images.images, base.preprocess, device=device, batch_size=batch_size, precision=precision)
    labels = images.labels.to(features.device)
    with torch.inference_mode():
        scores = logits(features, head.to(features.device), base.logit_scale, base.logit_bias)
        correct = int((scores.argmax(dim=1) == labels).sum())
        return Score(correct, len(images), float(F.cross_entropy(scores, labels)))


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """The module in eval mode while the context lasts, then as it was, sub-module by sub-module."""
    training = [child for child in module.modules() if child.training]
    module.eval()
    try:
        yield
    finally:
        for child in training:
            child.training = True


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The autocast context of a precision: bfloat16, or none for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
