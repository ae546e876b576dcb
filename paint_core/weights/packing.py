"""Task vectors in 16, 8 or 4 bits a number: integers, and one scale for every block of numbers.

A task vector, unlike weights, is small beside what it is added to, so that rounding it coarsely changes little
(Kim et al., "Task vector quantization", ICCV 2025, arXiv 2503.06921). A number is its integer times the scale of its
block, in float32, the same bits on every machine, and 0 stays 0. Blocks follow the memory order of the tensor. Tensors
of fewer than two dimensions (biases, norms) are few numbers and stay float32.

With 16 and 8 bits a block is 128 numbers with a float32 scale, and the largest number is the largest integer. With 4
bits it is 32 numbers with a bfloat16 scale, which may be negative: of a few scales around the one that makes the number
of largest magnitude -8, that which rounds its block best. Files of earlier releases, with 4 bits in blocks of 128, are
read.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from paint_core.errors import ConfigError, WeightsMismatchError
from paint_core.weights.vectors import TaskVector

Bits = Literal[32, 16, 8, 4]
"""Bits of a stored number; 32 is float32, without any rounding."""

SCALE_DIVISORS = (-8.0, -7.5, -9.0, 7.0)
"""Tried as scale of a block of 4-bit numbers: its number of largest magnitude, divided by one of these."""

_CHUNK_NUMBERS = 1 << 20


@dataclass(frozen=True)
class Form:
    """How the numbers of a tensor are stored.

    Attributes:
        bits: of an integer.
        codes: dtype of the integers; 4 bits lie two to a byte.
        scales: dtype of the scales.
        block: numbers that share a scale.
        least: the smallest integer.
    """

    bits: int
    codes: torch.dtype
    scales: torch.dtype
    block: int
    least: int

    @property
    def has_signed_scales(self) -> bool:
        """Whether a scale may be negative."""
        return self.scales == torch.bfloat16


FORMS: Mapping[int, Form] = {
    16: Form(16, torch.int16, torch.float32, 128, -32767),
    8: Form(8, torch.int8, torch.float32, 128, -127),
    4: Form(4, torch.uint8, torch.bfloat16, 32, -8),
}
"""Bits to the form that `pack` gives."""

_EARLIER = Form(4, torch.uint8, torch.float32, 128, -7)


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
        0. Scales: float32 [ceil(N / 128)], >= 0, or with 4 bits bfloat16 [ceil(N / 32)]. Both on the CPU.
    """
    form = FORMS[bits]
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    parts = [_pack_part(part, form) for part in torch.split(flat, _CHUNK_NUMBERS)]
    codes, scales = (torch.cat(each) for each in zip(*parts, strict=True))
    return codes, scales


def _pack_part(flat: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    blocks = torch.nn.functional.pad(flat, (0, -len(flat) % form.block)).reshape(-1, form.block)
    scales = _best_scales(blocks, form) if form.bits == 4 else blocks.abs().amax(dim=1) / -form.least
    codes = _codes(blocks, scales, form).reshape(-1)[: len(flat)]
    if form.bits != 4:
        return codes.to(form.codes), scales
    halves = torch.nn.functional.pad(codes, (0, len(flat) % 2)).to(torch.int16) + 8
    return (halves[0::2] | (halves[1::2] << 4)).to(form.codes), scales


def _best_scales(blocks: Tensor, form: Form) -> Tensor:
    """The scale of each block [N, B] with the smallest squared error, of those that `SCALE_DIVISORS` give."""
    largest = blocks.gather(1, blocks.abs().argmax(dim=1, keepdim=True)).squeeze(1)
    relative = blocks / torch.where(largest != 0, largest.abs(), torch.inf)[:, None]  # squares of it do not vanish
    best, least_error = torch.zeros(len(blocks), dtype=form.scales), torch.full((len(blocks),), torch.inf)
    for divisor in SCALE_DIVISORS:
        scales = (largest / divisor).to(form.scales)
        steps = scales.float() / torch.where(largest != 0, largest.abs(), torch.inf)
        errors = (_codes(blocks, scales, form) * steps[:, None] - relative).square().sum(dim=1)
        is_better = errors < least_error
        best, least_error = torch.where(is_better, scales, best), torch.where(is_better, errors, least_error)
    return best


def _codes(blocks: Tensor, scales: Tensor, form: Form) -> Tensor:
    """The nearest integers of blocks [N, B], as float32."""
    exact = scales.float()
    quotients = blocks / torch.where(exact != 0, exact, torch.inf)[:, None]
    return quotients.round().clamp(form.least, (1 << (form.bits - 1)) - 1)


def unpack(name: str, codes: Tensor, scales: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The float32 tensor of integers and scales, in fresh memory.

    Args:
        name: for messages.
        codes: as from `pack`, or from that of an earlier release.
        scales: the same; their dtype and that of the codes tell the form.
        shape: of the tensor.

    Raises:
        WeightsMismatchError: sizes, dtypes or values that `pack` does not give.
    """
    form = require_packed(name, codes.dtype, codes.shape, scales.dtype, scales.shape, shape)
    if not bool(torch.isfinite(scales).all()) or (not form.has_signed_scales and bool((scales < 0).any())):
        raise _damaged(name, "a scale is negative or not finite")
    numbers = math.prod(shape)
    out = torch.empty(numbers)
    for start in range(0, numbers, _CHUNK_NUMBERS):
        end = min(numbers, start + _CHUNK_NUMBERS)
        part = _halves(codes[start // 2 : (end + 1) // 2]) if form.bits == 4 else codes[start:end]
        _require_in_range(name, part, form, end - start)
        _write(out[start:end], part[: end - start], scales[start // form.block :].float(), form.block)
    return out.reshape(shape)


def require_packed(
    name: str,
    codes_dtype: torch.dtype,
    codes_shape: Sequence[int],
    scales_dtype: torch.dtype,
    scales_shape: Sequence[int],
    shape: Sequence[int],
) -> Form:
    """The form of codes and scales, which fits a tensor's shape; checked before any memory is taken.

    Raises:
        WeightsMismatchError: dtypes or sizes do not go with the shape.
    """
    known = (*FORMS.values(), _EARLIER)
    form = next((each for each in known if (each.codes, each.scales) == (codes_dtype, scales_dtype)), None)
    if form is None or not is_packed(shape, form.bits):
        raise _damaged(name, f"{codes_dtype} codes and {scales_dtype} scales for a tensor of shape {list(shape)}")
    numbers = math.prod(shape)
    num_codes = (numbers + 1) // 2 if form.bits == 4 else numbers
    if list(codes_shape) != [num_codes] or list(scales_shape) != [-(-numbers // form.block)]:
        raise _damaged(
            name, f"{list(codes_shape)} codes and {list(scales_shape)} scales for a tensor of shape {list(shape)}"
        )
    return form


def _halves(codes: Tensor) -> Tensor:
    """The integers of two-number bytes, int8."""
    return torch.stack([codes & 15, codes >> 4], dim=1).reshape(-1).to(torch.int8) - 8


def _write(out: Tensor, codes: Tensor, scales: Tensor, block: int) -> None:
    """Writes code * scale, block by block; the last block may be shorter."""
    whole = len(out) // block
    end = whole * block
    torch.mul(codes[:end].reshape(whole, block), scales[:whole, None], out=out[:end].view(whole, block))
    if end < len(out):
        torch.mul(codes[end:], scales[whole], out=out[end:])


def _require_in_range(name: str, codes: Tensor, form: Form, used: int) -> None:
    """Refuses an integer that `pack` never gives, and anything but 0 in the unused half of the last byte."""
    if int(codes.min()) < form.least or bool(codes[used:].any()):
        raise _damaged(name, "a code is out of range")


def _damaged(name: str, what: str) -> WeightsMismatchError:
    return WeightsMismatchError(f"{name} is not packed as a task vector is ({what}): store the task vector again")
