"""Class statistics that add up, and the linear classifier that they give (GDA, Wang et al., ICLR 2024).

With class means mu_c, the pooled covariance S and Sigma^-1 = D [(n - 1) S + tr(S) I]^-1 (the shrinkage of Kubokawa and
Srivastava, 2008), the logit of class c is z w_c + b_c, w_c = Sigma^-1 mu_c, b_c = log pi_c - mu_c^T Sigma^-1 mu_c / 2.
Only the statistics need to be kept, no image and no feature of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from paint_core.errors import DatasetError


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """Sums over labelled features; those of two sets of images add up, and can be subtracted again.

    Attributes:
        counts: float64 [C], number of images by class.
        sums: float64 [C, D], sums of z by class.
        products: float64 [D, D], sum of z z^T over all images.
    """

    counts: Tensor
    sums: Tensor
    products: Tensor

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, num_classes: int) -> ClassStatistics:
        """The statistics of unit features [n, D] with int64 labels [n]."""
        features = features.double()
        sums = torch.zeros(num_classes, features.shape[1], dtype=torch.float64).index_add_(0, labels, features)
        return cls(torch.bincount(labels, minlength=num_classes).double(), sums, features.T @ features)

    def __add__(self, other: ClassStatistics) -> ClassStatistics:
        """Those of both sets of images."""
        return ClassStatistics(self.counts + other.counts, self.sums + other.sums, self.products + other.products)

    def __sub__(self, other: ClassStatistics) -> ClassStatistics:
        """Those without a subset of the images."""
        return ClassStatistics(self.counts - other.counts, self.sums - other.sums, self.products - other.products)

    def classifier(self) -> tuple[Tensor, Tensor]:
        """The weights float64 [C, D] and biases [C] of the linear classifier.

        Raises:
            DatasetError: a class has no image, or all images of each class are equal.
        """
        if not bool((self.counts > 0).all()):
            raise DatasetError("a class has no image: leave it out, or add one")
        means = self.sums / self.counts[:, None]
        scatter = self.products - (self.counts[:, None] * means).T @ means
        weights = means @ _inverse(scatter, float(self.counts.sum()))
        biases = (self.counts / self.counts.sum()).log() - (weights * means).sum(dim=1) / 2
        return weights, biases


def left_out_logits(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """The logits of each image under the classifier of all other images, without solving n times.

    The scatter without an image is a rank-one downdate, and its shrinkage shifts all eigenvalues by the same amount, so
    one eigendecomposition and the formula of Sherman and Morrison give the exact inverse of each.

    Args:
        features: [n, D], unit rows.
        labels: int64 [n]; every class has at least two images.

    Returns:
        float64 [n, C].
    """
    features, count = features.double(), len(features)
    statistics = ClassStatistics.of(features, labels, num_classes)
    counts = statistics.counts
    if not bool((counts > 1).all()):
        raise DatasetError("a class has one image, and nothing is left of it without that one: add images")
    means = statistics.sums / counts[:, None]
    scatter = statistics.products - (counts[:, None] * means).T @ means
    values, basis = torch.linalg.eigh(scatter)
    rotated, centres, width, total = features @ basis, means @ basis, features.shape[1], count - 1
    factors = counts / (counts - 1)
    rows = []
    for image, label in zip(rotated, labels.tolist(), strict=True):
        step = image - centres[label]
        others, moved = counts.clone(), centres.clone()
        others[label] -= 1
        moved[label] -= step / others[label]
        trace = float(values.sum() - factors[label] * step @ step)
        diagonal = (total - 1) / total * values + trace / total
        push = (total - 1) / total * factors[label]
        plain, solved = image / diagonal, step / diagonal
        rest = push / (1 - push * (solved @ step))
        solution = plain + rest * (solved @ image) * solved
        own = moved / diagonal
        own = own + rest * (own @ step)[:, None] * solved
        rows.append(width * (moved @ solution) + (others / total).log() - width * (own * moved).sum(dim=1) / 2)
    return torch.stack(rows)


def _inverse(scatter: Tensor, count: float) -> Tensor:
    """Sigma^-1 of a scatter matrix, n S."""
    width, covariance = len(scatter), scatter / count
    trace = covariance.trace()
    if not float(trace) > 0:
        raise DatasetError("the images of each class are equal: add different ones")
    inverse: Tensor = torch.linalg.inv((count - 1) * covariance + trace * torch.eye(width, dtype=torch.float64))
    return width * inverse
