"""The one linear layer that acts most like each of several on its own inputs."""

from collections.abc import Sequence

import torch
from torch import Tensor

RIDGE = 0.1
"""The weight of the plain mean, as a share of the mean variance of an input."""


def merge_by_least_squares(matrices: Sequence[Tensor], covariances: Sequence[Tensor]) -> Tensor:
    """The matrix W that minimises sum_t tr((W - W_t) S_t (W - W_t)^T), shrunk towards the mean of the W_t.

    RegMean's closed form (Jin et al., ICLR 2023, arXiv 2212.09849): (sum W_t S_t)(sum S_t)^-1. Directions in which no
    task has inputs are settled by the mean: r I is added to each S_t, r being `RIDGE` times the mean variance.

    Args:
        matrices: [m, n] each, float32.
        covariances: [n, n] each, of the inputs; positive semi-definite.
    """
    size = matrices[0].shape[1]
    exact = [covariance.double() for covariance in covariances]
    mean_variance = sum(float(each.trace()) for each in exact) / (len(exact) * size)
    if mean_variance == 0:
        return torch.stack(list(matrices)).mean(dim=0)
    ridge = RIDGE * mean_variance * torch.eye(size, dtype=torch.float64, device=matrices[0].device)
    weights = torch.stack([each.to(ridge.device) + ridge for each in exact])
    total = weights.sum(dim=0)
    weighted = (torch.stack(list(matrices)).double() @ weights).sum(dim=0)
    merged: Tensor = torch.linalg.solve(total, weighted, left=False)
    return merged.to(matrices[0].dtype)
