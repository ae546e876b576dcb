"""Pages of the studies: the text is written by hand, what lies between two marks by the program.

A page that does not exist is begun with the study's question and headings.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
"""Marks around what the program writes."""


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        header: of each column.
        rows: cells as text.
        caption: a sentence above it.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def __str__(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{self.caption}\n\n{table}" if self.caption else table


@dataclass(frozen=True)
class Results:
    """What a study found.

    Attributes:
        tables: in the order of the page.
        plots: drawings by name.
    """

    tables: Sequence[Table]
    plots: Mapping[str, Drawing] = field(default_factory=dict)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return the mean of values over seeds, with the least and the largest of them."""
    middle = f"{statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return f"{middle} (1 seed)"
    return f"{middle} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def new_plot(x_label: str, y_label: str) -> tuple[Drawing, Axes]:
    """Return an empty drawing of the size that pages have."""
    drawing, axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    return drawing, axes


def write_page(folder: Path, name: str, question: str, facts: str, results: Results) -> Path:
    """Write the results of a study into its page, and its plots beside it; return the page.

    Args:
        folder: of the pages.
        name: of the study.
        question: its title.
        facts: command, hardware and seeds, in one line.
        results: what was found.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{name}.md"
    text = page.read_text(encoding="utf-8") if page.exists() else f"# {question}\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    parts = [facts, *map(str, results.tables)]
    for label, drawing in results.plots.items():
        target = folder / f"{name}-{label}.svg"
        with pyplot.rc_context({"svg.hashsalt": name}):
            drawing.savefig(target, metadata={"Date": None})
        pyplot.close(drawing)
        parts.append(f"![{label}]({target.name})")
    written = "\n\n".join([BEGIN, *parts, END])
    page.write_text(before + written + after, encoding="utf-8")
    return page
