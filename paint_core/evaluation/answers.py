"""What a model answers to each image, and how the answers compare with the labels: confusion matrix and F1."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paint_core.evaluation.scoring import Correction, corrected_logits, row_chunks


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers to N images.

    Attributes:
        predicted: int64 [N], the class of the best logit.
        probability: float32 [N], of that class, softmax over all, in (0, 1].
        margin: float32 [N], by how much that probability exceeds the second best; 1 if there is one class only.
    """

    predicted: Tensor
    probability: Tensor
    margin: Tensor


@dataclass(frozen=True)
class ClassCounts:
    """The answers to the images of one class.

    Attributes:
        total: images of the class.
        correct: of these, the ones classified as it.
        predicted: images classified as it, whatever they are.
    """

    total: int
    correct: int
    predicted: int

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall in [0, 1]; None without images of the class."""
        return 2 * self.correct / (self.total + self.predicted) if self.total else None


@torch.inference_mode()
def answer(
    features: Tensor, head: Tensor, *, scale: float, bias: float = 0.0, correct: Correction | None = None
) -> Answers:
    """The answers of a model to images; memory stays bounded, whatever N and C are.

    Args:
        features: [N, D], N >= 1, of any length.
        head: [C, D], unit rows.
        scale: the model's `logit_scale`.
        bias: the model's `logit_bias`.
        correct: of the logits; None leaves them.

    Returns:
        The answers, on the CPU.
    """
    head = head.to(features.device)
    chunks = row_chunks(len(features))
    rows = [_answer(corrected_logits(features[start:end], head, scale, bias, correct)) for start, end in chunks]
    predicted, probability, margin = (torch.cat(column).cpu() for column in zip(*rows, strict=True))
    return Answers(predicted, probability, margin)


def count_classes(labels: Tensor, predicted: Tensor, num_classes: int) -> list[ClassCounts]:
    """The counts of each class.

    Args:
        labels: int64 [N], in [0, num_classes).
        predicted: int64 [N], in [0, num_classes).
    """
    right = labels[labels == predicted]
    columns = (torch.bincount(each, minlength=num_classes).tolist() for each in (labels, right, predicted))
    return [ClassCounts(*counts) for counts in zip(*columns, strict=True)]


def macro_f1(classes: Sequence[ClassCounts]) -> float:
    """The mean F1 over the classes that have images, in [0, 1] (Opitz and Burst 2019, arXiv 1911.03347, "averaged F1").

    Args:
        classes: at least one has images.
    """
    found = [counts.f1 for counts in classes if counts.f1 is not None]
    return sum(found) / len(found)


def confusion(labels: Tensor, predicted: Tensor) -> list[tuple[int, int, int]]:
    """The confusion matrix without its zeros: (label, predicted class, images), the largest counts first."""
    cells = Counter(zip(labels.tolist(), predicted.tolist(), strict=True))
    return sorted(((*cell, count) for cell, count in cells.items()), key=lambda cell: (-cell[2], cell[:2]))


def _answer(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    best = rows.topk(min(2, rows.shape[1]), dim=1)
    probabilities = (best.values - rows.logsumexp(dim=1, keepdim=True)).exp()
    runner_up = probabilities[:, 1] if probabilities.shape[1] > 1 else torch.zeros(len(rows), device=rows.device)
    return rows.argmax(dim=1), probabilities[:, 0], probabilities[:, 0] - runner_up
