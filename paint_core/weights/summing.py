"""The one kernel of mixing: base + sum of factor * update of one tensor, at the speed of the memory."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
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

    Raises:
        NonFiniteWeightsError: the sum holds a NaN or an infinity; `out` is unusable then.
    """
    for update, _ in updates:
        require_same_shape(name, update.shape, out.shape)
        require_float32(name, update.dtype)
    tensors = [out, base.to(out.device), *(update.to(out.device) for update, _ in updates)]
    factors = [factor for _, factor in updates]
    finite = _write_by_numpy(tensors, factors) if _is_plain(tensors) else _write_by_torch(tensors, factors)
    if updates and not finite:
        raise NonFiniteWeightsError(
            f"{name} would contain NaN or infinity: discard the task vector that does, or use smaller coefficients"
        )


def _is_plain(tensors: Sequence[Tensor]) -> bool:
    return all(
        tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in tensors
    )


def _write_by_numpy(tensors: Sequence[Tensor], factors: Sequence[float]) -> bool:
    """Writes into the first tensor; whether all of it is finite. Each thread takes chunk after chunk.

    Waking torch's threads for every operation on a chunk would take longer than the operation.
    """
    arrays = [tensor.numpy().reshape(-1) for tensor in tensors]
    starts = range(0, arrays[0].size, CHUNK_NUMBERS)
    chunks = ([array[start : start + CHUNK_NUMBERS] for array in arrays] for start in starts)
    num_threads = torch.get_num_threads()
    run = map if num_threads == 1 or len(starts) == 1 else _threads(num_threads, os.getpid()).map
    return all(list(run(partial(_write_chunk, factors), chunks)))


@cache
def _threads(num_threads: int, _pid: int) -> ThreadPoolExecutor:
    """The threads of this process, which a fork does not inherit."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix="mix")


def _write_chunk(factors: Sequence[float], arrays: Sequence[NDArray[np.float32]]) -> bool:
    out, total, *updates = arrays
    if not updates:
        np.copyto(out, total)
        return True
    scratch = np.empty_like(out)
    with np.errstate(over="ignore", invalid="ignore"):  # reported by the caller, with the name
        for update, factor in zip(updates, factors, strict=True):
            product = update if factor == 1.0 else np.multiply(update, np.float32(factor), out=scratch)
            total = np.add(total, product, out=out)
        # A non-finite value makes the sum non-finite. A sum of finite values may overflow too: only then check each.
        return bool(np.isfinite(np.add.reduce(out)) or np.isfinite(out).all())


def _write_by_torch(tensors: Sequence[Tensor], factors: Sequence[float]) -> bool:
    """As `_write_by_numpy`, for every device, dtype and memory layout."""
    finite = True
    for out, base, *updates in _chunks(tensors):
        wide = torch.promote_types(torch.promote_types(out.dtype, base.dtype), torch.float32)
        total = base.to(wide, copy=True)
        for update, factor in zip(updates, factors, strict=True):
            total += update if factor == 1.0 else update.to(wide) * factor
        out.copy_(total)
        finite = finite and (not updates or is_finite(out))
    return finite


def _chunks(tensors: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    """Views of the same stretch of every tensor; all at once on a GPU and where memory layouts differ."""
    if tensors[0].device.type != "cpu" or not all(tensor.is_contiguous() for tensor in tensors):
        yield tensors
        return
    flat = [tensor.view(-1) for tensor in tensors]
    for start in range(0, len(flat[0]), CHUNK_NUMBERS):
        yield [tensor[start : start + CHUNK_NUMBERS] for tensor in flat]
