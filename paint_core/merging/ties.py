"""TIES: trim, elect signs, merge (Yadav et al., NeurIPS 2023, arXiv 2306.01708, section 4)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from paint_core.weights import TaskVector

KEPT_FRACTION = 0.2
"""The share of a task vector's numbers that survives trimming (the paper's default)."""


def ties(task_vectors: Sequence[Mapping[str, Tensor]]) -> TaskVector:
    """The mean of the large changes that agree in sign, number by number.

    1. Trim: of each task vector only the fifth of largest magnitude is kept, over the whole tower.
    2. Elect: each number takes the sign of the sum of what is left; where that is 0, the merged number is 0.
    3. Merge: the mean over those task vectors whose kept value has the elected sign (the disjoint mean).
    """
    thresholds = [_threshold(tau) for tau in task_vectors]
    merged: TaskVector = {}
    for name in task_vectors[0]:
        device = task_vectors[0][name].device
        kept = [_trim(tau[name].to(device), limit) for tau, limit in zip(task_vectors, thresholds, strict=True)]
        merged[name] = _disjoint_mean(kept)
    return merged


def _threshold(tau: Mapping[str, Tensor]) -> float:
    """The smallest magnitude that is kept."""
    magnitudes = np.concatenate([tensor.detach().abs().cpu().numpy().reshape(-1) for tensor in tau.values()])
    num_kept = max(1, round(KEPT_FRACTION * magnitudes.size))
    magnitudes.partition(magnitudes.size - num_kept)
    return float(magnitudes[-num_kept])


def _trim(tensor: Tensor, threshold: float) -> Tensor:
    return torch.where(tensor.abs() >= threshold, tensor, 0.0)


def _disjoint_mean(kept: Sequence[Tensor]) -> Tensor:
    elected = sum(kept, torch.zeros_like(kept[0])).sign()
    total, count = torch.zeros_like(kept[0]), torch.zeros_like(kept[0])
    for tensor in kept:
        agrees = (tensor.sign() == elected) & (tensor != 0)
        total += torch.where(agrees, tensor, 0.0)
        count += agrees
    return total / count.clamp(min=1)
