"""Patches in closed form: the tower stays, and what it says of the patched names is corrected by their images.

- kernel.py: kernel ridge regression with the zero-shot answer as prior; what versions use
- head_term.py: the result, as a term of a version that changes the logits of its names in any list
- gaussian.py: class statistics that add up, and the linear classifier that they give
"""

from paint_core.instant.head_term import MAX_SUPPORT, HeadTerm, load_head_term, save_head_term
from paint_core.instant.kernel import KernelFit, fit_kernel

__all__ = ["MAX_SUPPORT", "HeadTerm", "KernelFit", "fit_kernel", "load_head_term", "save_head_term"]
