"""The curves of a run, drawn from its log."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.figure import Figure

from recipes.starter.train import Settings

COLUMNS = {"loss": "Loss (nats)", "logit_scale": "Logit scale", "pictures_per_second": "Pictures a second"}


def read_log(path: Path) -> dict[int, dict[str, float]]:
    """Return step to the columns of a `log.csv`; of a step that was done again, as after a kill, the last time counts.

    Args:
        path: Of the log.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = {int(row["step"]): {name: float(row[name]) for name in COLUMNS} for row in csv.DictReader(file)}
    return dict(sorted(rows.items()))


def save_curves(log: Path, settings: Settings, target: Path) -> None:
    """Write a PNG of every column over the steps; a line shows where pictures become large.

    Args:
        log: A `log.csv`.
        settings: Of the run.
        target: The PNG file.
    """
    rows = read_log(log)
    figure = Figure(figsize=(7, 6), dpi=120, layout="constrained")
    for axes, (name, title) in zip(figure.subplots(len(COLUMNS), sharex=True), COLUMNS.items(), strict=True):
        axes.plot([*rows], [row[name] for row in rows.values()], linewidth=0.8)
        axes.set_ylabel(title)
        axes.grid(alpha=0.25)
        if 0 < settings.small_share < 1:
            axes.axvline(settings.small_share * settings.steps, color="grey", linestyle=":")
        axes.set_xlabel("Step" if name == [*COLUMNS][-1] else "")
    figure.savefig(target, format="png")
