"""Kernel ridge regression on features, with the zero-shot answer as prior (ProKeR, CVPR 2025; RAIL, NeurIPS 2024).

P(z) = softmax(s z W^T) is the zero-shot answer, Z the support: unit features of the labelled images, and Y their labels
as one-hot rows. With K_ij = exp(-gamma |z_i - z_j|^2),

    A = (K + lambda I)^-1 (Y - P(Z)),    F(z) = P(z) + k(z, Z) A.

Far from the support k is 0, and F is the zero-shot answer. gamma and lambda are chosen by the leave-one-out residuals
e_i = A_i / [(K + lambda I)^-1]_ii, which need no second solution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from paint_core.errors import ConfigError, DatasetError

WIDTHS = (1.0, 2.0, 4.0)
"""Values of gamma that are tried, times the median squared distance between support features."""

RIDGES = (0.01, 0.1, 1.0)
"""Values of lambda that are tried."""

_DEFAULT_WIDTH, _DEFAULT_RIDGE = 1.0, 0.1
_PAIRS = 1 << 20
_LEAST_DISTANCE = 1e-6  # below it, distances are rounding errors


@dataclass(frozen=True)
class KernelFit:
    """A solution.

    Attributes:
        gamma: of the kernel, > 0.
        ridge: lambda, > 0.
        weights: float64 [n, C + 1]: A, and in the last column (K + lambda I)^-1 1, by which k(z, Z) tells how near z is
            to the support: about 1 there, 0 far from it.
        num_left_out: images that leave-one-out judged: those of classes with several images.
        num_right: of these, the ones that the fit to all other images classifies correctly.
    """

    gamma: float
    ridge: float
    weights: Tensor
    num_left_out: int
    num_right: int

    @property
    def accuracy(self) -> float | None:
        """The leave-one-out accuracy in [0, 1]; None if no class has several images."""
        return self.num_right / self.num_left_out if self.num_left_out else None


def fit_kernel(
    support: Tensor, labels: Tensor, prior: Tensor, *, gamma: float | None = None, ridge: float | None = None
) -> KernelFit:
    """The fit with the best leave-one-out accuracy; among equals the narrowest kernel, then the largest lambda.

    Where no class has several images, leave-one-out knows nothing, and defaults are taken.

    Args:
        support: [n, D], unit rows.
        labels: int64 [n], in [0, C).
        prior: [n, C], the zero-shot probabilities of the support.
        gamma: of the kernel; None tries `WIDTHS`.
        ridge: lambda; None tries `RIDGES`.

    Raises:
        DatasetError: no image, or shapes that do not fit.
        ConfigError: gamma or lambda is not above 0.
    """
    _require_fitting(support, labels, prior)
    for name, value in (("gamma", gamma), ("ridge", ridge)):
        if value is not None and not value > 0:
            raise ConfigError(f"{name} is {value}: choose a number above 0")
    distances = squared_distances(support.double(), support.double())
    scale = 1 / _typical(distances)
    is_told = bool((torch.bincount(labels) > 1).any())
    widths, ridges = (WIDTHS, RIDGES) if is_told else ((_DEFAULT_WIDTH,), (_DEFAULT_RIDGE,))
    fits = [
        _solve(distances, labels, prior.double(), each, penalty)
        for each in sorted([gamma] if gamma is not None else [width * scale for width in widths], reverse=True)
        for penalty in sorted([ridge] if ridge is not None else ridges, reverse=True)
    ]
    return max(fits, key=lambda fit: fit.num_right)  # the first of equals


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """|z_i - z_j|^2 of unit rows [N, D] and [M, D], as [N, M]."""
    return (2 - 2 * left @ right.T).clamp_(min=0)


def _solve(distances: Tensor, labels: Tensor, prior: Tensor, gamma: float, ridge: float) -> KernelFit:
    kernel = torch.exp(-gamma * distances)
    kernel.diagonal().add_(ridge)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(kernel))
    wanted = F.one_hot(labels, prior.shape[1]).double()
    weights = inverse @ (wanted - prior)
    left_out = wanted - weights / inverse.diagonal()[:, None]
    judged = torch.bincount(labels, minlength=prior.shape[1])[labels] > 1
    right = (left_out.argmax(dim=1) == labels) & judged
    together = torch.cat([weights, inverse.sum(dim=1, keepdim=True)], dim=1)
    return KernelFit(gamma, ridge, together, int(judged.sum()), int(right.sum()))


def _typical(distances: Tensor) -> float:
    """The median of the distances between different images, or a small number if these are the same."""
    count = len(distances)
    rows, columns = torch.triu_indices(count, count, 1)
    if not len(rows):
        return 1.0
    step = max(1, len(rows) // _PAIRS)
    return max(_LEAST_DISTANCE, float(distances[rows[::step], columns[::step]].median()))


def _require_fitting(support: Tensor, labels: Tensor, prior: Tensor) -> None:
    count = len(support)
    if count == 0 or support.ndim != 2 or labels.shape != (count,) or prior.ndim != 2 or len(prior) != count:
        raise DatasetError(
            f"support {list(support.shape)}, labels {list(labels.shape)} and prior {list(prior.shape)} do not fit: "
            "give [n, D], [n] and [n, C] with n >= 1"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < prior.shape[1]:
        raise DatasetError(f"a label is outside 0..{prior.shape[1] - 1}: correct labels or prior")
