"""In which arithmetic to run: what `auto` means on a device."""

from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]
RunPrecision = Literal["fp32", "bf16", "auto"]


def resolve_precision(precision: RunPrecision, device: torch.device | str) -> Precision:
    """The arithmetic to use: `auto` becomes bf16 where the device computes it in hardware, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if _has_bf16(torch.device(device)) else "fp32"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False
