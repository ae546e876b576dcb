"""The accuracy frontier of a patch as an SVG picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from paintbox_client.cleaning import clean
from paintbox_client.errors import InputError
from paintbox_client.records import JsonObject

_WIDTH, _HEIGHT, _MARGIN = 640, 480, 60
_LINE, _CHOSEN = "#1f4e79", "#c0392b"


def draw_frontier(done: JsonObject) -> str:
    """Return an SVG: mean accuracy of the supported tasks against that of the patching tasks, along alpha.

    Without a supported task, alpha itself is the horizontal axis.

    Raises:
        InputError: The report has no curve.
    """
    report = done["report"]
    points = [each for each in report.get("curve") or () if each.get("patching") is not None]
    if not points:
        raise InputError("The report has no curve to plot.", "Omit --plot; use --json for the full report.")
    has_supported = all(each.get("supported") is not None for each in points)
    xs = [100 * each["supported"] if has_supported else each["alpha"] for each in points]
    ys = [100 * each["patching"] for each in points]
    horizontal, vertical = _scale(xs, _MARGIN, _WIDTH - 20), _scale(ys, _HEIGHT - _MARGIN, 40)
    name = "Supported tasks, mean accuracy on validation images (%)" if has_supported else "Alpha"
    at = [(_place(x, horizontal), _place(y, vertical)) for x, y in zip(xs, ys, strict=True)]
    marked = [place for place, each in zip(at, points, strict=True) if each.get("measured") is not False]
    chosen = min(range(len(points)), key=lambda index: abs(points[index]["alpha"] - report["alpha"]))
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
            'font-size="12"><rect width="100%" height="100%" fill="white"/>',
            *_axes(horizontal, vertical, name, "Patching tasks, mean accuracy on validation images (%)"),
            f'<polyline fill="none" stroke="{_LINE}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at)}"/>',
            *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_LINE}"/>' for x, y in marked),
            f'<circle cx="{at[chosen][0]:.1f}" cy="{at[chosen][1]:.1f}" r="7" fill="{_CHOSEN}"/>',
            f'<text x="{_MARGIN}" y="24">{_text(done.get("name", "patch"))}: chosen alpha {report["alpha"]:g} (red), '
            f"from {points[0]['alpha']:g} to {points[-1]['alpha']:g}</text></svg>",
        )
    )


def _axes(
    horizontal: Sequence[float], vertical: Sequence[float], horizontal_name: str, vertical_name: str
) -> Iterator[str]:
    low, high, left, right = horizontal
    bottom_value, top_value, bottom, top = vertical
    yield f'<path d="M{left},{top} V{bottom} H{right}" fill="none" stroke="black"/>'
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = left + share * (right - left), bottom + share * (top - bottom)
        yield f'<text x="{x:.0f}" y="{bottom + 18}" text-anchor="middle">{low + share * (high - low):.3g}</text>'
        value = bottom_value + share * (top_value - bottom_value)
        yield f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{value:.3g}</text>'
    yield f'<text x="{(left + right) / 2:.0f}" y="{bottom + 40}" text-anchor="middle">{horizontal_name}</text>'
    middle = (top + bottom) / 2
    yield f'<text transform="translate(16,{middle:.0f}) rotate(-90)" text-anchor="middle">{vertical_name}</text>'


def _scale(values: Sequence[float], first: float, last: float) -> tuple[float, float, float, float]:
    """Return the least and the greatest value and where they are drawn."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 1, high + 1
    return low, high, first, last


def _place(value: float, scale: Sequence[float]) -> float:
    low, high, first, last = scale
    return first + (value - low) / (high - low) * (last - first)


def _text(text: object) -> str:
    return escape(clean(text))
