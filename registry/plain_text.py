"""Text and data of foreign origin, made fit for both databases, for JSON and for terminals, and bounded.

PostgreSQL takes no NUL and no lone surrogate in text, and no NaN in JSON; terminals obey control characters.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_DETAIL = 2_000
"""Most characters of the cause of a failure."""

MAX_LOG_TAIL_BYTES = 16_384
"""Most bytes of a log that are kept with a job."""

MAX_MESSAGE = 500
"""Most characters of an event's message."""

MAX_DATA_BYTES = 8_192
"""Most bytes of an event's data, as JSON."""

_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def clean_text(text: str, limit: int = MAX_DETAIL) -> str:
    """Return text without control, text-direction and surrogate characters; lines and tabs stay.

    Args:
        limit: Maximum number of characters; longer text ends with an ellipsis.
    """
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return _UNFIT.sub("", cut)


def clean_tail(text: str, limit_bytes: int = MAX_LOG_TAIL_BYTES) -> str:
    """Return the end of a text, cleaned as `clean_text` does."""
    cleaned = _UNFIT.sub("", text[-limit_bytes:])
    return cleaned.encode()[-limit_bytes:].decode("utf-8", errors="ignore")


def clean_data(data: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return plain data that a JSON column takes, numbers that are not finite as None; a remark if it is too large."""
    if data is None:
        return None
    size = len(json.dumps(data))
    return {"left_out_bytes": size} if size > MAX_DATA_BYTES else dict(_clean(data))


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value, MAX_DATA_BYTES)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {clean_text(str(key)): _clean(each) for key, each in value.items()}
    return [_clean(each) for each in value] if isinstance(value, list | tuple) else value
