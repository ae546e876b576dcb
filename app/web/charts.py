"""Drawings of pages, as SVG that the server writes. A table beside each holds the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from app.web.formats import show
from contract.report import PatchReport
from contract.scores import AlphaPoint

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 30
_NUM_STYLES = 8


@dataclass(frozen=True)
class Line:
    """The accuracy of one task along alpha.

    Attributes:
        name: Of the task.
        is_patching: Whether it is to be improved; other tasks are drawn with dashes.
        points: Alpha and accuracy, 0 to 1, by rising alpha.
    """

    name: str
    is_patching: bool
    points: Sequence[tuple[float, float]]


def draw_curve(lines: Sequence[Line], chosen: float) -> Markup:
    """Return the accuracies along alpha, with a mark at the chosen alpha that scripts can move."""
    end = max((alpha for line in lines for alpha, _ in line.points), default=1.0) or 1.0
    parts = [_axes(end)]
    for number, line in enumerate(lines):
        points = " ".join(f"{_x(alpha, end):.1f},{_y(accuracy):.1f}" for alpha, accuracy in line.points)
        role = "patching" if line.is_patching else "supported"
        parts.append(
            f'<polyline class="line line-{number % _NUM_STYLES} {role}" points="{points}" fill="none">'
            f"<title>{escape(show(line.name))}</title></polyline>"
        )
    place = f"{_x(chosen, end):.1f}"
    parts.append(f'<line class="chosen" x1="{place}" x2="{place}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
    parts.append(f'<line class="cursor" x1="{place}" x2="{place}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
    label = f"Validation accuracy of {len(lines)} tasks along alpha, from 0 to {end:g}; chosen: {chosen:g}"
    return _frame("".join(parts), label, end)


def draw_empty(end: float = 1.0) -> Markup:
    """Return axes without lines, to which scripts add a dot for each alpha that is evaluated."""
    return _frame(_axes(end), f"Validation accuracies at the alphas evaluated so far, from 0 to {end:g}", end)


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
    lines = [
        Line(
            name=task.name,
            is_patching=task.role == "patching",
            points=[
                (point.alpha, point.tasks[task.dataset_id].accuracy or 0.0)
                for point in curve
                if task.dataset_id in point.tasks
            ],
        )
        for task in report.tasks
    ]
    return draw_curve(lines, report.alpha)


def _frame(content: str, label: str, end: float) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}" data-left="{_LEFT}" '
        f'data-right="{WIDTH - _RIGHT}" data-top="{_TOP}" data-bottom="{HEIGHT - _BOTTOM}" data-end="{end:g}">'
        f"{content}</svg>"
    )


def _x(alpha: float, end: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * alpha / end


def _y(accuracy: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * accuracy


def _axes(end: float) -> str:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = f"{_y(share):.1f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y}" text-anchor="end" dy="4">{100 * share:.0f} %</text>')
        x = f"{_x(share * end, end):.1f}"
        parts.append(f'<text x="{x}" y="{HEIGHT - 10}" text-anchor="middle">{share * end:g}</text>')
    return "".join(parts)
