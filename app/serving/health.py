"""Whether forward passes succeed, which is not the same as whether a version is loaded."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import structlog
import torch

from app.http.errors import OutOfMemoryError
from app.serving.model import ServedModel

FAILURES_IN_A_ROW = 3
_OUT_OF_MEMORY = ("can't allocate memory", "Cannot allocate memory", "out of memory")
"""How torch says it on a CPU, in a plain RuntimeError; the system, where a file cannot be mapped; and CUDA."""

_log = structlog.get_logger(__name__)


class Health:
    """Counts the forwards of each version that failed one after the other.

    Args:
        on_fatal: Told of an error after which the device answers nothing any more, until the process has started anew.
    """

    def __init__(self, on_fatal: Callable[[Exception], object] = repr) -> None:
        self._on_fatal = on_fatal
        self._failures: WeakKeyDictionary[ServedModel, tuple[int, str]] = WeakKeyDictionary()

    def succeeded(self, model: ServedModel) -> None:
        """Take note that a forward succeeded: whatever failed before is forgotten."""
        if self._failures:
            self._failures.pop(model, None)

    def failed(self, model: ServedModel, error: Exception) -> Exception:
        """Take note that a forward failed; return what whoever waits for it is told."""
        num_failures = 1 + self._failures.get(model, (0, ""))[0]
        self._failures[model] = num_failures, f"{type(error).__name__}: {str(error)[:200]}"
        if num_failures == FAILURES_IN_A_ROW:
            _log.error("forward passes fail", version=model.version_id, error=self._failures[model][1])
        self.look_at(error)
        return OutOfMemoryError() if is_out_of_memory(error) else error

    def look_at(self, error: Exception) -> None:
        """Tell of an error that is fatal for the device."""
        if isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error):
            self._on_fatal(error)

    def trouble(self, model: ServedModel) -> str | None:
        """Return why a version does not answer although it is loaded; None: it does, as far as is known."""
        num_failures, cause = self._failures.get(model, (0, ""))
        if num_failures < FAILURES_IN_A_ROW:
            return None
        return f"version {model.version_id} failed {num_failures} times in a row ({cause})"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether there was not enough memory, of the device or of the machine."""
    told = any(words in str(error) for words in _OUT_OF_MEMORY)
    return told or isinstance(error, MemoryError | torch.OutOfMemoryError)
