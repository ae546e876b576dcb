"""TSV-M: merging task singular vectors (Gargiulo et al., CVPR 2025, arXiv 2412.00081, section 4)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from paint_core.merging.matrices import merge_matrices, nearest_orthonormal, svd
from paint_core.weights import TaskVector


def tsv(task_vectors: Sequence[Mapping[str, Tensor]]) -> TaskVector:
    """The sum of every task's strongest directions, made orthogonal to those of the others.

    Of each matrix every one of k tasks keeps the first 1/k of its singular vectors. Side by side they are whitened: U
    and V are replaced by the nearest matrices with orthonormal columns (Procrustes), which takes the interference
    between tasks away. Then U * diag(s) * V^T is put together again. Vectors (biases, norms) are averaged.
    """
    return merge_matrices(task_vectors, merge_by_singular_vectors)


def merge_by_singular_vectors(matrices: Sequence[Tensor]) -> Tensor:
    """One matrix [m, n] from one per task, as `tsv` merges them."""
    num_kept = max(1, min(matrices[0].shape) // len(matrices))
    parts = [svd(matrix) for matrix in matrices]
    left = torch.cat([u[:, :num_kept] for u, _, _ in parts], dim=1)
    values = torch.cat([s[:num_kept] for _, s, _ in parts])
    right = torch.cat([vt[:num_kept] for _, _, vt in parts])
    return (nearest_orthonormal(left) * values) @ nearest_orthonormal(right.T).T
