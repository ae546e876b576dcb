"""Patching with every method of PAINT (arXiv 2208.05592), and the arithmetic of patches once they exist."""

from paint_core.patching.compose import Mix, NamedTerm, Removal, compose, negate, remove, scale
from paint_core.patching.context import Event, TestPoint
from paint_core.patching.outcome import PatchResult, StageResult
from paint_core.patching.plan import Coefficients, Merge, Method, PatchPlan
from paint_core.patching.run import run_part, run_patch
from paint_core.patching.transfer import BroadTransfer, broad_transfer, restrict_classes

__all__ = [
    "BroadTransfer",
    "Coefficients",
    "Event",
    "Merge",
    "Method",
    "Mix",
    "NamedTerm",
    "PatchPlan",
    "PatchResult",
    "Removal",
    "StageResult",
    "TestPoint",
    "broad_transfer",
    "compose",
    "negate",
    "remove",
    "restrict_classes",
    "run_part",
    "run_patch",
    "scale",
]
