"""TSV-M: merging task singular vectors (Gargiulo et al., CVPR 2025, arXiv 2412.00081, section 4)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from paint_core.merging.matrices import merge_matrices, svd
from paint_core.weights import TaskVector


def tsv(task_vectors: Sequence[Mapping[str, Tensor]]) -> TaskVector:
    """The sum of every task's strongest directions, made orthogonal to those of the others.

    Of each matrix every one of k tasks keeps the first 1/k of its singular vectors. Side by side they are whitened: U
    and V are replaced by the nearest matrices with orthonormal columns (Procrustes), which takes the interference
    between tasks away. Then U * diag(s) * V^T is put together again. Vectors (biases, norms) are averaged.
    """
    return merge_matrices(task_vectors, _merge)


def _merge(matrices: Sequence[Tensor]) -> Tensor:
    num_kept = max(1, min(matrices[0].shape) // len(matrices))
    parts = [svd(matrix) for matrix in matrices]
    left = torch.cat([u[:, :num_kept] for u, _, _ in parts], dim=1)
    values = torch.cat([s[:num_kept] for _, s, _ in parts])
    right = torch.cat([vt[:num_kept] for _, _, vt in parts])
    return (_nearest_orthonormal(left) * values) @ _nearest_orthonormal(right.T).T


def _nearest_orthonormal(columns: Tensor) -> Tensor:
    """The orthogonal Procrustes solution: P Q^T of the decomposition P D Q^T.

    Where tasks share a direction the columns depend on each other, and P and Q are arbitrary beyond their rank. Only
    the rank counts: two tasks with the same direction then get the mean of it, not noise beside it.
    """
    if not columns.shape[1]:
        return columns
    left, _, right = svd(columns)
    return left @ right
