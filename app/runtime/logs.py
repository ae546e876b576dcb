"""Logging of the API process: one JSON object a line on standard error, ours and the libraries'."""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import suppress
from typing import TextIO

from pipeline.logs import configure_logging

_WRITE_SECONDS = 0.1
_MOST_LINES = 100_000


class LateStream:
    """A stream for log lines that a thread writes out ten times a second, and when it is closed.

    Writing releases Python's lock, for which the event loop would wait again after each request's line, and a slow
    reader of the log would block it: here the oldest lines are dropped once there are too many. What a process logs in
    its last tenth of a second is lost if it is killed.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._lock = threading.Lock()  # keeps the order of lines
        self._end = threading.Event()
        threading.Thread(target=self._run, name="paintbox-log", daemon=True).start()

    def write(self, text: str) -> int:
        """Take text without blocking."""
        self._lines.append(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing; called after each line."""

    def close(self) -> None:
        """Write what is left."""
        self._end.set()
        self._write()

    def _run(self) -> None:
        while not self._end.wait(_WRITE_SECONDS):
            self._write()

    def _write(self) -> None:
        with self._lock:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lines:
                with suppress(OSError, ValueError):  # the reader of the log has gone: keep serving
                    self._stream.write("".join(lines))
                    self._stream.flush()


def set_up_logging(level: str, stream: TextIO | LateStream | None = None) -> None:
    """Configure structlog and the standard library's logging for this process.

    Args:
        level: Lowest level that is written.
        stream: Where our own lines go; None: standard error, unbuffered.
    """
    configure_logging(level, min_library_level=logging.WARNING, stream=stream)
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger("uvicorn").setLevel(max(number, logging.INFO))
