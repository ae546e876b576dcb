"""Whether forward passes succeed, which is not the same as whether a version is loaded."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import structlog
import torch

from app.http.errors import OutOfMemoryError
from app.runtime.memory import is_out_of_memory
from app.serving.model import Model

FAILURES_IN_A_ROW = 3
_log = structlog.get_logger(__name__)


class Health:
    """Counts the forward passes of each model that failed one after the other.

    Args:
        on_fatal: Called with an error after which the device cannot be used until the process has restarted.
    """

    def __init__(self, on_fatal: Callable[[Exception], object] = repr) -> None:
        self._on_fatal = on_fatal
        self._failures: WeakKeyDictionary[Model, tuple[int, str]] = WeakKeyDictionary()

    def succeeded(self, model: Model) -> None:
        """Record a forward pass that succeeded; earlier failures no longer count."""
        if self._failures:
            self._failures.pop(model, None)

    def failed(self, model: Model, error: Exception) -> Exception:
        """Record a forward pass that failed; return the error for the requests."""
        num_failures = 1 + self._failures.get(model, (0, ""))[0]
        self._failures[model] = num_failures, f"{type(error).__name__}: {str(error)[:200]}"
        if num_failures == FAILURES_IN_A_ROW:
            _log.error("forward passes fail", version=model.version_id, error=self._failures[model][1])
        self.check(error)
        return OutOfMemoryError() if is_out_of_memory(error) else error

    def check(self, error: Exception) -> None:
        """Report an error that is fatal for the device."""
        if isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error):
            self._on_fatal(error)

    def last_error(self, model: Model) -> str | None:
        """Return why a model does not answer; None: it does, as far as is known."""
        num_failures, cause = self._failures.get(model, (0, ""))
        if num_failures < FAILURES_IN_A_ROW:
            return None
        return f"version {model.version_id} failed {num_failures} times in a row ({cause})"
