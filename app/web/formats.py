"""How pages show values: shares, points, times, sizes; and texts of foreign origin, which may contain anything."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from registry.database import utc_now

MAX_TEXT = 2_000
"""Maximum length of a text on a page."""

_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_SIZES = ("B", "kB", "MB", "GB", "TB")


def show(value: Any) -> Any:
    """Return what a template prints for a value: characters that hide or reorder text are visible, and it is bounded.

    None is shown as a dash. Markup is kept.
    """
    if value is None:
        return "–"
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    shortened = value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"
    return _HIDDEN.sub("\N{REPLACEMENT CHARACTER}", shortened)


def percent(share: float | None) -> str:
    """Return a share as `93.4 %`."""
    return "–" if share is None else f"{100 * share:.1f} %"


def points(value: float | None) -> str:
    """Return percentage points with their sign, as `+1.2` or `−0.4`."""
    return "–" if value is None else f"{value:+.1f}".replace("-", "−")


def ago(moment: datetime | None) -> str:
    """Return how long ago something happened, as `3 hours ago`."""
    if moment is None:
        return "–"
    seconds = (utc_now() - moment).total_seconds()
    if seconds < 1:
        return "now"
    size, unit = next(each for each in _UNITS if seconds >= each[0])
    count = int(seconds // size)
    return f"{count} {unit}{'s' if count != 1 else ''} ago"


def duration(seconds: float | None) -> str:
    """Return a duration as `40 s`, `12 min` or `3.5 h`."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def moment(at: datetime | None) -> str:
    """Return a moment in UTC, to the minute."""
    return "–" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def size(num_bytes: float | None) -> str:
    """Return a number of bytes as `3.2 GB`."""
    if num_bytes is None:
        return "–"
    power = 0
    while num_bytes >= 1000 and power < len(_SIZES) - 1:
        num_bytes, power = num_bytes / 1000, power + 1
    return f"{num_bytes:.0f} B" if power == 0 else f"{num_bytes:.1f} {_SIZES[power]}"


def count(number: int | None, noun: str, plural: str = "") -> str:
    """Return a number with its noun, as `1 image` or `1,379 images`."""
    return "–" if number is None else f"{number:,} {noun if number == 1 else plural or noun + 's'}"


FILTERS: Mapping[str, Callable[..., str]] = {
    "percent": percent,
    "points": points,
    "ago": ago,
    "duration": duration,
    "moment": moment,
    "size": size,
    "count": count,
}
