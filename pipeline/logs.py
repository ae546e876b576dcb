"""Log set-up of every process: one JSON object per line on standard error, from our code and from libraries."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO, cast

import structlog


def configure_logging(level: str, *, min_library_level: int = logging.NOTSET, stream: Any = None) -> None:
    """Configure structlog and the standard library's logging for this process.

    Args:
        level: Lowest level that is written, such as `info`.
        min_library_level: Lines of libraries below this level are dropped too.
        stream: Where our own lines go, an object with `write` and `flush`; None: standard error.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, stream or sys.stderr)),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        )
    )
    logging.basicConfig(level=max(number, min_library_level), handlers=[handler], force=True)
