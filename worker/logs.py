"""Logging of a worker or trainer process: one JSON object a line on standard error, ours, Celery's and tracebacks."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from contextlib import suppress
from types import TracebackType

import structlog
from celery.apps import worker as celery_worker
from celery.signals import celeryd_init, setup_logging

from pipeline.logs import configure_logging
from worker.settings import WorkerSettings


def set_up_logging(level: str) -> None:
    """Configure structlog and the standard library's logging for this process."""
    configure_logging(level)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda hook: _log_uncaught(hook.exc_type, hook.exc_value, hook.exc_traceback)


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _set_up_early(**_: object) -> None:
    """Set up logging before Celery logs anything; what it prints on a signal stays in its own format."""
    set_up_logging(WorkerSettings.load().log_level)
    celery_worker.safe_say = _say


@setup_logging.connect  # type: ignore[untyped-decorator]
def _set_up_celerys_logging(loglevel: int | str | None = None, **_: object) -> None:
    """Replace Celery's own set-up, which would wrap our lines in its format."""
    level = WorkerSettings.load().log_level
    # Celery's default level cannot be told from one that was asked for, so a command can only ask for more lines.
    asked = loglevel if isinstance(loglevel, int) else logging.CRITICAL
    if asked < logging.getLevelNamesMapping()[level.upper()]:
        level = "debug" if asked <= logging.DEBUG else "info"
    set_up_logging(level)


def _say(text: str, _stream: object = None) -> None:
    """Write a line from within a signal handler: in one piece, and without a lock that the main thread may hold."""
    with suppress(OSError):
        os.write(2, (json.dumps({"event": text, "level": "info"}) + "\n").encode())


def _log_uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if error is None or issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger().error("uncaught exception", exc_info=(kind, error, traceback))
