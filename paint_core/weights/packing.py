"""Task vectors in 16, 8 or 4 bits a number: integers with one scale for every block of 128 numbers.

A task vector, unlike weights, is small beside what it is added to, so that rounding it coarsely changes little
(Kim et al., "Task vector quantization", ICCV 2025, arXiv 2503.06921). The rounding is symmetric: a number is its
integer times the scale of its block, in float32, the same bits on every machine, and 0 stays 0. Blocks follow the
memory order of the tensor. Tensors of fewer than two dimensions (biases, norms) are few numbers and stay float32.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from paint_core.errors import ConfigError, WeightsMismatchError
from paint_core.weights.vectors import TaskVector

Bits = Literal[32, 16, 8, 4]
"""Bits of a stored number; 32 is float32, without any rounding."""

BLOCK = 128
"""Numbers that share a scale: 0.25 bits a number."""

_DTYPES = {16: torch.int16, 8: torch.int8, 4: torch.uint8}
_CHUNK_BLOCKS = 1 << 13


def is_packed(shape: Sequence[int], bits: int) -> bool:
    """Whether a tensor of this shape is rounded when a task vector is stored in so many bits."""
    return bits != 32 and len(shape) >= 2 and math.prod(shape) > 0


def rounded(tau: Mapping[str, Tensor], bits: Bits) -> TaskVector:
    """The task vector as it is read back when it is stored in so many bits; 32 gives its own tensors.

    Raises:
        ConfigError: another number of bits.
    """
    if bits not in get_args(Bits):
        raise ConfigError(f"bits is {bits}: use 32, 16, 8 or 4")
    return {
        name: unpack(name, *pack(tensor, bits), tuple(tensor.shape)).to(tensor.device)
        if is_packed(tensor.shape, bits)
        else tensor
        for name, tensor in tau.items()
    }


def pack(tensor: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """The integers and scales of a float32 tensor, in 16, 8 or 4 bits.

    Returns:
        Codes: int16 [N], int8 [N], or uint8 [ceil(N / 2)] with two numbers a byte, the first in the low half and 8 for
        0. Scales: float32 [ceil(N / 128)], >= 0. Both on the CPU.
    """
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    largest_code = (1 << (bits - 1)) - 1
    blocks = torch.nn.functional.pad(flat, (0, -len(flat) % BLOCK)).reshape(-1, BLOCK)
    scales = blocks.abs().amax(dim=1) / largest_code
    quotients = blocks / torch.where(scales > 0, scales, torch.inf)[:, None]
    codes = quotients.round().clamp(-largest_code, largest_code).reshape(-1)[: len(flat)]
    if bits != 4:
        return codes.to(_DTYPES[bits]), scales
    halves = torch.nn.functional.pad(codes, (0, len(flat) % 2)).to(torch.int16) + 8
    return (halves[0::2] | (halves[1::2] << 4)).to(torch.uint8), scales


def unpack(name: str, codes: Tensor, scales: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The float32 tensor of integers and scales, in fresh memory.

    Args:
        name: for messages.
        codes: as from `pack`; their dtype tells the bits.
        scales: as from `pack`.
        shape: of the tensor.

    Raises:
        WeightsMismatchError: sizes, dtypes or values that `pack` does not give.
    """
    require_packed(name, codes.dtype, codes.shape, scales.dtype, scales.shape, shape)
    if not bool(torch.isfinite(scales).all()) or bool((scales < 0).any()):
        raise _damaged(name, "a scale is negative or not finite")
    bits, numbers = _bits_of(codes.dtype), math.prod(shape)
    out = torch.empty(numbers)
    for start in range(0, numbers, _CHUNK_BLOCKS * BLOCK):
        end = min(numbers, start + _CHUNK_BLOCKS * BLOCK)
        part = _halves(codes[start // 2 : (end + 1) // 2]) if bits == 4 else codes[start:end]
        _require_in_range(name, part, bits, end - start)
        _write(out[start:end], part[: end - start], scales[start // BLOCK :])
    return out.reshape(shape)


def require_packed(
    name: str,
    codes_dtype: torch.dtype,
    codes_shape: Sequence[int],
    scales_dtype: torch.dtype,
    scales_shape: Sequence[int],
    shape: Sequence[int],
) -> None:
    """Refuses codes and scales whose dtypes or sizes do not go with a tensor's shape, before any memory is taken.

    Raises:
        WeightsMismatchError: they do not.
    """
    bits = _bits_of(codes_dtype)
    numbers = math.prod(shape)
    num_codes = (numbers + 1) // 2 if bits == 4 else numbers
    if not is_packed(shape, bits) or scales_dtype != torch.float32:
        raise _damaged(name, f"{codes_dtype} codes and {scales_dtype} scales for a tensor of shape {list(shape)}")
    if list(codes_shape) != [num_codes] or list(scales_shape) != [-(-numbers // BLOCK)]:
        raise _damaged(
            name, f"{list(codes_shape)} codes and {list(scales_shape)} scales for a tensor of shape {list(shape)}"
        )


def _bits_of(dtype: torch.dtype) -> int:
    return next((bits for bits, each in _DTYPES.items() if each == dtype), 32)


def _halves(codes: Tensor) -> Tensor:
    """The integers of two-number bytes, int8."""
    return torch.stack([codes & 15, codes >> 4], dim=1).reshape(-1).to(torch.int8) - 8


def _write(out: Tensor, codes: Tensor, scales: Tensor) -> None:
    """Writes code * scale, block by block; the last block may be shorter."""
    whole = len(out) // BLOCK
    end = whole * BLOCK
    torch.mul(codes[:end].reshape(whole, BLOCK), scales[:whole, None], out=out[:end].view(whole, BLOCK))
    if end < len(out):
        torch.mul(codes[end:], scales[whole], out=out[end:])


def _require_in_range(name: str, codes: Tensor, bits: int, used: int) -> None:
    """Refuses the one integer that `pack` never gives, and anything but 0 in the unused half of the last byte."""
    if int(codes.min()) < -((1 << (bits - 1)) - 1) or bool(codes[used:].any()):
        raise _damaged(name, "a code is out of range")


def _damaged(name: str, what: str) -> WeightsMismatchError:
    return WeightsMismatchError(f"{name} is not packed as a task vector is ({what}): store the task vector again")
