"""Drawings of pages, as SVG that the server writes. A table beside each holds the same numbers."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from app.web.formats import show
from contract.report import PatchReport
from contract.scores import AlphaPoint, TaskRole

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 30
_NUM_STYLES = 8
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def draw_empty(end: float = 1.0) -> Markup:
    """Return axes without lines, to which scripts add a dot for each alpha that is evaluated."""
    return frame(_alphas(end), f"Validation accuracies at the alphas evaluated so far, from 0 to {end:g}", end)


def curve_of(report: PatchReport) -> Sequence[AlphaPoint]:
    """Return the points of the last search of a patch along the chosen profile; empty if there are none."""
    if report.curve or not report.stages:
        return report.curve
    last = report.stages[-1]
    return last.curves.get(last.profile, ())


def draw_patch(report: PatchReport) -> Markup | None:
    """Return the curve of a patch's report; None if it has none."""
    curve = curve_of(report)
    if not curve:
        return None
    end = max(point.alpha for point in curve) or 1.0
    parts = [_alphas(end)]
    for number, task in enumerate(report.tasks):
        known = [(point.alpha, point.tasks[task.dataset_id]) for point in curve if task.dataset_id in point.tasks]
        points = [(scale_x(alpha / end), scale_y(score.accuracy or 0.0)) for alpha, score in known]
        parts.append(draw_line(number, task.role, task.name, points))
    place = f"{scale_x(report.alpha / end):.1f}"
    for name in ("chosen", "cursor"):
        parts.append(f'<line class="{name}" x1="{place}" x2="{place}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
    label = f"Validation accuracy of {len(report.tasks)} tasks along alpha, from 0 to {end:g}; chosen: {report.alpha:g}"
    return frame("".join(parts), label, end)


def draw_line(number: int, role: TaskRole, name: str, points: Sequence[tuple[float, float]]) -> str:
    """Return a line in one of the styles; lines of tasks to improve are thick, those of supported tasks have dashes."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline class="line line-{number % _NUM_STYLES} {role}" points="{places}" fill="none">'
        f"<title>{escape(show(name))}</title></polyline>"
    )


def frame(content: str, label: str, end: float = 1.0) -> Markup:
    """Return a drawing with its name for screen readers; scripts read the edges and `end`, the largest alpha."""
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}" data-left="{_LEFT}" '
        f'data-right="{WIDTH - _RIGHT}" data-top="{_TOP}" data-bottom="{HEIGHT - _BOTTOM}" data-end="{end:g}">'
        f"{content}</svg>"
    )


def grid(ticks: Sequence[tuple[float, str]]) -> str:
    """Return lines at accuracies, and words below at shares of the width."""
    parts = []
    for accuracy in _SHARES:
        y = f"{scale_y(accuracy):.1f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y}" text-anchor="end" dy="4">{100 * accuracy:.0f} %</text>')
    for share, text in ticks:
        parts.append(f'<text x="{scale_x(share):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{text}</text>')
    return "".join(parts)


def scale_x(share: float) -> float:
    """Return the place of a share of the width."""
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * share


def scale_y(accuracy: float) -> float:
    """Return the place of an accuracy, 0 to 1."""
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * accuracy


def _alphas(end: float) -> str:
    return grid([(share, f"{share * end:g}") for share in _SHARES])
