"""What the spectral methods share: which tensors are matrices, and their singular vectors."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from paint_core.weights import TaskVector

Svd = tuple[Tensor, Tensor, Tensor]
"""U [m, r], singular values [r] falling, V^T [r, n]; without the directions whose singular value is 0."""


def merge_matrices(
    task_vectors: Sequence[Mapping[str, Tensor]], merge: Callable[[Sequence[Tensor]], Tensor]
) -> TaskVector:
    """The task vectors merged matrix by matrix; other tensors are averaged.

    A convolution's kernel [O, I, h, w] is the matrix [O, I * h * w], which maps a patch to output channels. A depthwise
    kernel [C, 1, h, w] is treated alike, as [C, h * w]: its channels do not mix, so the singular vectors are then
    spatial filters that many channels share. Leading dimensions of size 1 do not count, so a position embedding
    [1, N, D] is the matrix [N, D]. Biases, norms and class embeddings are vectors.

    Args:
        merge: from one matrix [m, n] per task vector to one; all float32.
    """
    merged: TaskVector = {}
    for name, first in task_vectors[0].items():
        tensors = [first.detach(), *(tau[name].detach().to(first.device) for tau in task_vectors[1:])]
        rows = num_rows(first.shape)
        if rows is None:
            merged[name] = torch.stack(tensors).mean(dim=0)
        else:
            merged[name] = merge([tensor.reshape(rows, -1) for tensor in tensors]).reshape(first.shape)
    return merged


def svd(matrix: Tensor) -> Svd:
    """The singular value decomposition over the matrix's numerical rank.

    Directions without a singular value are arbitrary; low-rank or frozen layers have many of them.
    """
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    limit = values.max() * max(matrix.shape) * torch.finfo(matrix.dtype).eps
    rank = int((values > limit).sum())
    return left[:, :rank], values[:rank], right[:rank]


def nearest_orthonormal(columns: Tensor) -> Tensor:
    """The orthogonal Procrustes solution: P Q^T of the decomposition P D Q^T.

    Where tasks share a direction the columns depend on each other, and P and Q are arbitrary beyond their rank. Only
    the rank counts: two tasks with the same direction then get the mean of it, not noise beside it.
    """
    if not columns.shape[1]:
        return columns
    left, _, right = svd(columns)
    return left @ right


def num_rows(shape: Sequence[int]) -> int | None:
    """The rows of the matrix that a tensor of this shape is; None if it is a vector, a number or empty."""
    sizes = list(shape)
    while sizes and sizes[0] == 1:
        del sizes[0]
    return sizes[0] if len(sizes) > 1 and 0 not in sizes else None
