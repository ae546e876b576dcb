"""Iso-C: isotropic merging in the common subspace (Marczak et al., ICML 2025, arXiv 2502.04959, section 4)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from paint_core.merging.matrices import merge_matrices, svd
from paint_core.weights import TaskVector


def iso(task_vectors: Sequence[Mapping[str, Tensor]]) -> TaskVector:
    """The sum of the task vectors with every matrix's singular values replaced by their mean.

    The few directions that dominate a sum belong to the tasks whose updates happen to be large; with a flat spectrum
    every direction that any task needs counts alike. The mean is over the sum's rank, so a sum of low-rank updates
    stays in its span. Vectors (biases, norms) are averaged.
    """
    return merge_matrices(task_vectors, _merge)


def _merge(matrices: Sequence[Tensor]) -> Tensor:
    left, values, right = svd(torch.stack(list(matrices)).sum(dim=0))
    if not len(values):
        return torch.zeros_like(matrices[0])
    return values.mean() * (left @ right)
