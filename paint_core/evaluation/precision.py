"""The arithmetic that evaluations use: bf16 only where it is faster, and only if the tower computes right in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from paint_core.config.precision import Precision, RunPrecision, has_bf16
from paint_core.evaluation.probe import probe_images
from paint_core.evaluation.scoring import encode
from paint_core.images.preprocess import Preprocess

MINIMUM_COSINE = 0.99
"""Of a probe image's features in bf16 and in fp32. Sound towers are above 0.999 (the starter 0.9999)."""


@dataclass(frozen=True)
class UsedPrecision:
    """What a requested precision comes to.

    Attributes:
        precision: to compute in.
        reason: why it is not bf16 although bf16 was requested or allowed; empty if it is, or if fp32 was requested.
    """

    precision: Precision
    reason: str = ""


def choose_precision(
    visual: nn.Module,
    preprocess: Preprocess,
    wanted: RunPrecision,
    device: torch.device | str,
    capabilities: Mapping[str, object] | None = None,
) -> UsedPrecision:
    """The precision in which to evaluate a tower and its fine-tuned variants.

    bf16 becomes fp32 in two cases: the device has no instructions for it, so that it would be emulated in software; and
    the features of four probe images differ from those in fp32.

    Args:
        visual: the base's image tower, on `device`.
        wanted: `fp32`; `bf16` or `auto`: bf16 where it can be used.
        capabilities: of the CPU, as torch names them; None asks torch.
    """
    if wanted == "fp32":
        return UsedPrecision("fp32")
    if not has_bf16(torch.device(device), capabilities):
        return UsedPrecision("fp32", "the device has no bf16 instructions, so bf16 would be emulated in software")
    images = probe_images(preprocess.size)
    exact, rough = (
        F.normalize(encode(visual, images, preprocess, device=device, precision=precision).double(), dim=-1)
        for precision in ("fp32", "bf16")
    )
    lowest = float((exact * rough).sum(dim=-1).min())
    if not lowest >= MINIMUM_COSINE:  # also true for NaN
        return UsedPrecision(
            "fp32", f"the image tower computes other features in bf16 than in fp32 (cosine {lowest:.3f})"
        )
    return UsedPrecision("bf16")
