"""ESM: essential subspace merging (Li et al., CVPR 2026, arXiv 2602.20208)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from paint_core.merging.matrices import nearest_orthonormal, num_rows, svd
from paint_core.merging.moments import Moments
from paint_core.merging.tsv import merge_by_singular_vectors
from paint_core.weights import TaskVector


def esm(task_vectors: Sequence[Mapping[str, Tensor]], moments: Sequence[Moments]) -> TaskVector:
    """The sum of what matters of every task's update, made orthogonal to what matters of the others.

    What matters is judged by what a layer puts out: of k tasks each keeps the first 1/k of the principal directions in
    which its update moves the layer's outputs on the task's own images. Longer updates, and input columns and layers
    that change more, are emphasised by the square of their relative length ("polarised scaling"); layers are compared
    with those of the same shape. Matrices without inputs to look at are merged as `tsv` does; vectors are averaged.

    Args:
        task_vectors: of k tasks.
        moments: for each task, of its own tower on its own images.
    """
    merged: TaskVector = {}
    moved: dict[tuple[int, ...], list[str]] = {}
    for name, first in task_vectors[0].items():
        tensors = [first.detach(), *(tau[name].detach().to(first.device) for tau in task_vectors[1:])]
        rows = num_rows(first.shape)
        if rows is None:
            merged[name] = torch.stack(tensors).mean(dim=0)
            continue
        matrices = [tensor.reshape(rows, -1) for tensor in tensors]
        known = [each[name] for each in moments if name in each and each[name].shape[0] == matrices[0].shape[1]]
        if len(known) == len(matrices):
            merged[name] = _merge(matrices, known).reshape(first.shape)
            moved.setdefault(tuple(first.shape), []).append(name)
        else:
            merged[name] = merge_by_singular_vectors(matrices).reshape(first.shape)
    for names in moved.values():
        _polarise_layers(merged, names)
    return merged


def _merge(matrices: Sequence[Tensor], moments: Sequence[Tensor]) -> Tensor:
    num_kept = max(1, matrices[0].shape[0] // len(matrices))
    directions = [_output_directions(*pair)[:, :num_kept] for pair in zip(matrices, moments, strict=True)]
    parts = [each.T @ matrix for each, matrix in zip(directions, matrices, strict=True)]
    lengths = torch.stack([part.norm() for part in parts])
    if not bool(lengths.any()):
        return torch.zeros_like(matrices[0])
    emphasis = (lengths / lengths.mean()).square()
    right = torch.cat([part * factor for part, factor in zip(parts, emphasis, strict=True)])
    columns = right.norm(dim=0)
    right = right * (columns / columns.mean()).square()
    _, values, _ = svd(right)
    left = nearest_orthonormal(torch.cat(directions, dim=1))
    merged: Tensor = left @ nearest_orthonormal(right) * values.mean()
    return merged


def _output_directions(update: Tensor, moment: Tensor) -> Tensor:
    """The principal directions [m, m] of x -> update x over the inputs, strongest first (columns)."""
    wide = update.double()
    spread = wide @ moment.to(wide.device) @ wide.T
    vectors: Tensor = torch.linalg.eigh((spread + spread.T) / 2).eigenvectors
    return vectors.flip(dims=(1,)).to(update.dtype)


def _polarise_layers(merged: TaskVector, names: Sequence[str]) -> None:
    lengths = torch.stack([merged[name].norm() for name in names])
    if bool(lengths.any()):
        for name, factor in zip(names, (lengths / lengths.mean()).square(), strict=True):
            merged[name] = merged[name] * factor
