"""Errors that say that memory ran out."""

from __future__ import annotations

import torch

_OUT_OF_MEMORY = (
    *("can't allocate memory", "Cannot allocate memory", "out of memory"),
    *("bad allocation", "bad_alloc", "Failed to allocate memory"),
)
"""How torch says it on a CPU, in a plain RuntimeError; the system, of a file that it cannot map; CUDA; ONNX Runtime."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether there was not enough memory, of the device or of the machine."""
    is_told = any(words in str(error) for words in _OUT_OF_MEMORY)
    return is_told or isinstance(error, MemoryError | torch.OutOfMemoryError)
