"""RegMean: merging by the second moments of each task's inputs (Jin et al., ICLR 2023, arXiv 2212.09849)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from paint_core.merging.least_squares import merge_by_least_squares
from paint_core.merging.matrices import num_rows
from paint_core.merging.moments import Moments
from paint_core.weights import TaskVector


def regmean(task_vectors: Sequence[Mapping[str, Tensor]], moments: Sequence[Moments]) -> TaskVector:
    """The task vector whose layers act most like each task's own layers on that task's images.

    Matrices without inputs to look at, and vectors, are averaged.

    Args:
        task_vectors: of k tasks.
        moments: for each task, of its own tower on its own images.
    """
    merged: TaskVector = {}
    for name, first in task_vectors[0].items():
        tensors = [first.detach(), *(tau[name].detach().to(first.device) for tau in task_vectors[1:])]
        rows = num_rows(first.shape)
        known = [each[name] for each in moments if name in each]
        matrices = [tensor.reshape(rows, -1) for tensor in tensors] if rows else []
        if matrices and len(known) == len(matrices) and known[0].shape[0] == matrices[0].shape[1]:
            merged[name] = merge_by_least_squares(matrices, known).reshape(first.shape)
        else:
            merged[name] = torch.stack(tensors).mean(dim=0)
    return merged
