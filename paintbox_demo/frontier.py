"""The accuracy frontier, as in the paper's figures: supported against patching accuracy along alpha."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paintbox_client.resources.reports import PatchReport

_COLORS = {"plain": "#1f4e79", "anchored": "#2e7d32"}
_CHOSEN = "#c0392b"


def save_frontier(reports: Mapping[str, PatchReport], path: Path) -> None:
    """Write a PNG of the alpha curves, one a report, by kind (`plain`, `anchored`).

    Their accuracies are of the validation splits that alpha was chosen on.
    """
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(6.4, 4.8), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        for kind, report in reports.items():
            _draw(axes, kind, report)
        axes.set_xlabel("Supported tasks, mean accuracy (%)")
        axes.set_ylabel("Patching task, accuracy (%)")
        axes.set_title("Accuracy along the path from zero-shot to fine-tuned weights")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, loc="lower left")  # the curves bend away from there
        figure.savefig(path, format="png")


def _draw(axes: Axes, kind: str, report: PatchReport) -> None:
    curve, color = report.curve, _COLORS[kind]
    supported = [100 * (point.supported or 0.0) for point in curve]
    patching = [100 * (point.patching or 0.0) for point in curve]
    measured = [index for index, point in enumerate(curve) if point.measured is not False]
    (line,) = axes.plot(supported, patching, "-o", color=color, markersize=3, linewidth=1.2, zorder=2)
    line.set(label=f"{kind} fine-tuning", markevery=measured)
    chosen = next(index for index, point in enumerate(curve) if point.alpha == report.alpha)
    for index, marker, size in ((0, "s", 45), (len(curve) - 1, "D", 45)):
        axes.scatter(supported[index], patching[index], s=size, marker=marker, color=color, zorder=3)
    label = f"patched, α = {report.alpha:g} ({kind})"
    axes.scatter(
        supported[chosen], patching[chosen], s=170, marker="*", color=_CHOSEN, edgecolor=color, label=label, zorder=4
    )
