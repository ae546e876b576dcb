"""Patching with every method of PAINT (arXiv 2208.05592)."""

from paint_core.patching.auto import AutoResult, run_auto
from paint_core.patching.context import Event, TestPoint
from paint_core.patching.instant import InstantResult, run_instant
from paint_core.patching.outcome import PatchResult, StageResult
from paint_core.patching.plan import Coefficients, Merge, Method, PatchPlan
from paint_core.patching.run import run_part, run_patch
from paint_core.patching.terms import NamedTerm

__all__ = [
    "AutoResult",
    "Coefficients",
    "Event",
    "InstantResult",
    "Merge",
    "Method",
    "NamedTerm",
    "PatchPlan",
    "PatchResult",
    "StageResult",
    "TestPoint",
    "run_auto",
    "run_instant",
    "run_part",
    "run_patch",
]
