"""The accuracy frontier, as in the paper's figures: supported against patching accuracy along alpha."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_INK = "#1f4e79"
_CHOSEN = "#c0392b"


def save_frontier(report: dict[str, Any], path: Path) -> None:
    """Write a PNG of the report's alpha curve; its accuracies are of the validation splits that alpha was chosen on."""
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(6.4, 4.8), dpi=150, layout="constrained")
        _draw(figure.add_subplot(), report)
        figure.savefig(path, format="png")


def _draw(axes: Axes, report: dict[str, Any]) -> None:
    curve = report["curve"]
    supported = [100 * point["supported"] for point in curve]
    patching = [100 * point["patching"] for point in curve]
    axes.plot(supported, patching, "-o", color=_INK, markersize=3.5, linewidth=1.2, zorder=2)
    chosen = next(index for index, point in enumerate(curve) if point["alpha"] == report["alpha"])
    marks = {
        0: ("zero-shot, α = 0", "s", _INK),
        len(curve) - 1: ("fine-tuned, α = 1", "D", _INK),
        chosen: (f"patched, α = {report['alpha']:g}", "*", _CHOSEN),
    }
    for index, (label, marker, color) in marks.items():
        size = 190 if marker == "*" else 55
        axes.scatter(supported[index], patching[index], s=size, marker=marker, color=color, label=label, zorder=3)
    axes.set_xlabel("Supported tasks, mean accuracy (%)")
    axes.set_ylabel("Patching task, accuracy (%)")
    axes.set_title("Accuracy along the path from zero-shot to fine-tuned weights")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower left")  # the curve bends away from there
