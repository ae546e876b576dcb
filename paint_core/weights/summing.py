"""The one kernel of mixing: base + sum of factor * update of one tensor, at the speed of the memory."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from paint_core.errors import NonFiniteWeightsError
from paint_core.weights.checks import is_finite, require_float32, require_same_shape

CHUNK_BYTES = 1 << 20
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
    wide = torch.promote_types(torch.promote_types(out.dtype, base.dtype), torch.float32)
    scratch = None
    for part, base_part, *update_parts in _chunks(tensors, CHUNK_BYTES // wide.itemsize):
        total = part.copy_(base_part) if part.dtype == wide else base_part.to(wide, copy=True)
        for update, (_, factor) in zip(update_parts, updates, strict=True):
            if factor == 1.0:
                total.add_(update)
                continue
            if scratch is None or scratch.shape != total.shape:
                scratch = torch.empty_like(total)
            total.add_(torch.mul(update.to(wide), factor, out=scratch))
        if total is not part:
            part.copy_(total)
        if updates and not is_finite(part):
            raise NonFiniteWeightsError(
                f"{name} would hold a NaN or an infinity: discard the task vector that does, or lower the coefficients"
            )


def _chunks(tensors: Sequence[Tensor], length: int) -> Iterator[Sequence[Tensor]]:
    """Views of the same stretch of every tensor; all at once on a GPU and where memory layouts differ."""
    if tensors[0].device.type != "cpu" or not all(tensor.is_contiguous() for tensor in tensors):
        yield tensors
        return
    flat = [tensor.view(-1) for tensor in tensors]
    for start in range(0, len(flat[0]), length):
        yield [tensor[start : start + length] for tensor in flat]
