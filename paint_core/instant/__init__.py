"""Patches in closed form: the tower stays, and what it says of the patched names is corrected by their images.

- kernel.py: kernel ridge regression with the zero-shot answer as prior
- head_term.py: its result as a term of a version, which changes the logits of its names in any list; holds features
- gaussian.py: class statistics that add up, and what they say of an image
- statistics_term.py: the term that they give; holds no image's features
- correction.py: what both do with the logits of a list
- files.py: both as files
"""

from paint_core.instant.files import load_head_term, save_head_term
from paint_core.instant.head_term import MAX_SUPPORT, HeadTerm
from paint_core.instant.kernel import KernelFit, fit_kernel
from paint_core.instant.statistics_term import StatisticsFit, StatisticsTerm

__all__ = [
    "MAX_SUPPORT",
    "HeadTerm",
    "KernelFit",
    "StatisticsFit",
    "StatisticsTerm",
    "fit_kernel",
    "load_head_term",
    "save_head_term",
]
