"""A thread that runs an action periodically."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from registry.errors import RegistryError
from registry.faults import classify_fault

_log = structlog.get_logger(__name__)


class PeriodicThread:
    """A named thread that calls `action` every `interval_seconds`; what the action raises is logged, not fatal.

    A fault of the installation, such as an unavailable database, is logged once when it begins and once when it is
    over.
    """

    def __init__(self, name: str, interval_seconds: float, action: Callable[[], object]) -> None:
        self._action = action
        self._interval_seconds = interval_seconds
        self._stopping = threading.Event()
        self._fault: str | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start calling."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Stop the calls and wait for one in progress."""
        self._stopping.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_seconds):
            try:
                self._action()
                self._tell(None)
            except Exception as error:  # retried at the next call
                fault = classify_fault(error) if isinstance(error, SQLAlchemyError) else error
                if isinstance(fault, RegistryError):
                    self._tell(fault.detail)
                else:
                    _log.exception("periodic action failed", thread=self._thread.name)

    def _tell(self, fault: str | None) -> None:
        if fault == self._fault:
            return
        self._fault = fault
        if fault is None:
            _log.info("periodic action recovered", thread=self._thread.name)
        else:
            _log.warning("periodic action failed", thread=self._thread.name, reason=fault)
