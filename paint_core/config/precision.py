"""In which arithmetic to run: what `auto` means on a device."""

from collections.abc import Mapping
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]
RunPrecision = Literal["fp32", "bf16", "auto"]


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
