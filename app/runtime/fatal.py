"""The end of a process whose device is lost: its supervisor starts another one with a new context."""

from __future__ import annotations

import os
import time

import structlog

STATUS = 70
_LOG_SECONDS = 0.5
_log = structlog.get_logger(__name__)


def end_process(error: Exception) -> None:
    """Log an error of the device and end the process at once: every later call of the device would fail."""
    _log.critical("device lost; the process exits", error=f"{type(error).__name__}: {str(error)[:500]}")
    time.sleep(_LOG_SECONDS)  # until the log is written by its own thread
    os._exit(STATUS)
