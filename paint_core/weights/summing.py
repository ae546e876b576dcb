"""The one kernel of mixing: base + sum of factor * update of one tensor, at the speed of the memory."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from paint_core.errors import NonFiniteWeightsError
from paint_core.weights.checks import is_finite, require_float32, require_same_shape

CHUNK_NUMBERS = 1 << 18
"""What is worked on at once, so that running sums stay in the cache while the updates stream past them."""

Update = tuple[Tensor, float]
"""A float32 tensor and its factor."""


def write_sum(out: Tensor, base: Tensor, updates: Sequence[Update], name: str) -> None:
    """Writes base + sum of factor * update into `out`.

    Summed in float32 (float64 for float64 weights) in the order given, then rounded once to the dtype of `out`. Each
    update is multiplied, then added: two roundings, the same on every device, in every memory layout and chunk size. A
    fused multiply-add would round once, in some places and not in others.

    Args:
        out: floating; overwritten. May be `base` itself.
        base: floating, same shape.
        updates: float32, same shape, on any device.
        name: of the tensor, for the message.

    Raises:
        WeightsMismatchError: an update has another shape or dtype.
        NonFiniteWeightsError: the sum holds a NaN or an infinity; `out` is spoilt then.
    """
    for update, _ in updates:
        require_same_shape(name, update.shape, out.shape)
        require_float32(name, update.dtype)
    tensors = [out, base.to(out.device), *(update.to(out.device) for update, _ in updates)]
    factors = [factor for _, factor in updates]
    write = _write_by_numpy if _is_plain(tensors) else _write_by_torch
    for part, *others in _chunks(tensors):
        write(part, others[0], list(zip(others[1:], factors, strict=True)))
        if updates and not is_finite(part):
            raise NonFiniteWeightsError(
                f"{name} would hold a NaN or an infinity: discard the task vector that does, or lower the coefficients"
            )


def _is_plain(tensors: Sequence[Tensor]) -> bool:
    return all(
        tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in tensors
    )


def _chunks(tensors: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    """Views of the same stretch of every tensor; all at once on a GPU and where memory layouts differ."""
    if tensors[0].device.type != "cpu" or not all(tensor.is_contiguous() for tensor in tensors):
        yield tensors
        return
    flat = [tensor.view(-1) for tensor in tensors]
    for start in range(0, len(flat[0]), CHUNK_NUMBERS):
        yield [tensor[start : start + CHUNK_NUMBERS] for tensor in flat]


def _write_by_numpy(out: Tensor, base: Tensor, updates: Sequence[Update]) -> None:
    """As `_write_by_torch`, for chunks too small to pay for waking torch's threads: at this size that takes longer.

    One core and the cache are about as fast here as the memory.
    """
    if not updates:
        out.copy_(base)
        return
    total, scratch = base.numpy(), np.empty(out.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # told by the caller, with the name
        for update, factor in updates:
            product = update.numpy() if factor == 1.0 else np.multiply(update.numpy(), np.float32(factor), out=scratch)
            total = np.add(total, product, out=out.numpy())


def _write_by_torch(out: Tensor, base: Tensor, updates: Sequence[Update]) -> None:
    wide = torch.promote_types(torch.promote_types(out.dtype, base.dtype), torch.float32)
    total = base.to(wide, copy=True)
    for update, factor in updates:
        total += update if factor == 1.0 else update.to(wide) * factor
    out.copy_(total)
