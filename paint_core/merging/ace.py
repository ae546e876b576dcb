"""ACE: merging by the covariances that task vectors themselves reveal (Xu et al., CVPR 2026, arXiv 2603.02945)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from paint_core.merging.least_squares import merge_by_least_squares
from paint_core.merging.matrices import merge_matrices
from paint_core.weights import TaskVector


def ace(task_vectors: Sequence[Mapping[str, Tensor]]) -> TaskVector:
    """The task vector that changes every task's outputs most nearly as its own one does.

    The best linear layer for several tasks weighs their updates by the covariances of their inputs, as RegMean does
    with images. A gradient step is a sum of outer products with inputs, so the rows of an update lie where the task's
    inputs lie: their covariance stands in for that of the inputs. It is divided by its trace, so that no task counts
    more because its update is longer (the paper does so only if the lengths differ much). The ridge of
    `merge_by_least_squares` takes the place of the paper's prior and of its spectral refinement. Vectors are averaged.
    """
    return merge_matrices(task_vectors, _merge)


def _merge(matrices: Sequence[Tensor]) -> Tensor:
    return merge_by_least_squares(matrices, [_covariance(matrix) for matrix in matrices])


def _covariance(update: Tensor) -> Tensor:
    """The estimated covariance [n, n] of the inputs of a layer, from its update [m, n]; of trace 1, or 0."""
    centred = update.double() - update.double().mean(dim=0, keepdim=True)
    if len(update) == 1:  # one row has no covariance around its mean
        centred = update.double()
    covariance = centred.T @ centred
    return covariance / covariance.trace().clamp(min=torch.finfo(torch.float64).tiny)
