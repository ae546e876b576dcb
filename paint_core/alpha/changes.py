"""Which images a path answers differently at two alphas, from the interpolated features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from paint_core.alpha.interpolation import FeatureCurve
from paint_core.models.heads import logits

_ROWS_A_CHUNK = 8192


@dataclass(frozen=True, eq=False, repr=False)
class Answers:
    """The answers at one alpha.

    Attributes:
        predicted: int64 [N], the class of each image.
        margins: float32 [N], the cosine of the image's label minus the largest cosine of another class: above 0 the
            answer is right, below 0 wrong; infinite with a single class.
    """

    predicted: Tensor
    margins: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class AnswerChanges:
    """The images of a task whose answers differ at two alphas.

    Attributes:
        indices: int64 [M], rows of the split, increasing.
        labels: int64 [N], of all its images.
        before: the answers at the first alpha, to all its images.
        after: at the second.
    """

    indices: Tensor
    labels: Tensor
    before: Answers
    after: Answers

    @property
    def lost(self) -> Tensor:
        """Bool [N]: right before, wrong after."""
        return (self.before.predicted == self.labels) & (self.after.predicted != self.labels)

    @property
    def won(self) -> Tensor:
        """Bool [N]: wrong before, right after."""
        return (self.before.predicted != self.labels) & (self.after.predicted == self.labels)


def answer_changes(
    curve: FeatureCurve, name: str, first: float, second: float, known: Answers | None = None
) -> AnswerChanges:
    """The images of a task whose answers differ at two alphas of a path.

    Args:
        name: of the task.
        first: the alpha before; within the curve's nodes.
        second: the alpha after.
        known: the answers at the first alpha, if the caller has them.

    Raises:
        ConfigError: an alpha is outside the nodes.
    """
    before = answers(curve, name, first) if known is None else known
    after = answers(curve, name, second)
    indices = (before.predicted != after.predicted).nonzero()[:, 0]
    return AnswerChanges(indices, curve.labels[name], before, after)


@torch.inference_mode()
def answers(curve: FeatureCurve, name: str, alpha: float) -> Answers:
    """The answers to a task's images at an alpha; errors as for `answer_changes`."""
    features, head, labels = curve.at(alpha, name), curve.heads[name], curve.labels[name]
    chunks = [
        _judge(logits(features[start : start + _ROWS_A_CHUNK], head, 1.0), labels[start : start + _ROWS_A_CHUNK])
        for start in range(0, len(features), _ROWS_A_CHUNK)
    ]
    predicted, margins = (torch.cat(column) for column in zip(*chunks, strict=True))
    return Answers(predicted, margins)


def _judge(cosines: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    own = cosines.gather(1, labels[:, None])
    others = cosines.scatter(1, labels[:, None], -torch.inf)
    return cosines.argmax(dim=1), own[:, 0] - others.amax(dim=1)
