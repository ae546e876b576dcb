"""In which arithmetic to run: what `auto` means on a device."""

from collections.abc import Mapping
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]
RunPrecision = Literal["fp32", "bf16", "auto"]
ServingPrecision = Literal["fp32", "bf16", "int8"]
WantedPrecision = Literal["auto", "fp32", "bf16", "int8"]


def resolve_precision(precision: RunPrecision, device: torch.device | str) -> Precision:
    """The arithmetic to use: `auto` becomes bf16 where the device computes it in hardware, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if has_bf16(torch.device(device)) else "fp32"


def has_bf16(device: torch.device, capabilities: Mapping[str, object] | None = None) -> bool:
    """Whether the device computes bf16 in hardware, so that it is faster than fp32.

    A CPU without such instructions, for example one with AVX2 alone, emulates bf16 in software.

    Args:
        capabilities: of the CPU, as `torch.cpu.get_capabilities` names them; None asks torch.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        known = torch.cpu.get_capabilities() if capabilities is None else capabilities
        return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    return False


def has_int8(device: torch.device, capabilities: Mapping[str, object] | None = None) -> bool:
    """Whether the device is a CPU with instructions for sums of products of 8-bit integers.

    Without them such products are slower, and may overflow the 16 bits in which they are added up.

    Args:
        capabilities: as for `has_bf16`.
    """
    known = torch.cpu.get_capabilities() if capabilities is None else capabilities
    names = ("avx512_vnni", "avx_vnni", "amx_int8", "dot", "i8mm")  # the last two are ARM's
    return device.type == "cpu" and any(known.get(name) for name in names)
