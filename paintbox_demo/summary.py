"""A patch's report as the table that the demo prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from paintbox_client.cleaning import clean
from paintbox_client.resources.reports import PatchReport, ReportTask

COLUMNS = ("zero_shot", "fine_tuned", "patched")
_TITLES = ("Zero-shot", "Fine-tuned", "Patched", "Anchored, patched")


def build_table(plain: PatchReport, anchored: PatchReport) -> Table:
    """Return test accuracies, one row a task: before, plainly fine-tuned, patched, and patched with anchors."""
    table = Table(title="Accuracy on test images (%)", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Task")
    table.add_column("Role", no_wrap=True)
    table.add_column("Images", justify="right", no_wrap=True)
    for title in _TITLES:
        table.add_column(title, justify="right", min_width=max(map(len, title.split())))
    for role in ("patching", "supported"):
        rows = list(zip(tasks_of(plain, role), tasks_of(anchored, role), strict=True))
        for task, other in rows:
            table.add_row(*_row(task, other))
        table.add_section()
    supported = tasks_of(plain, "supported")
    if supported:
        means = [mean_accuracy(supported, column) for column in COLUMNS]
        means.append(mean_accuracy(tasks_of(anchored, "supported"), "patched"))
        images = sum(task.test.patched.total for task in supported)
        table.add_row("mean", "supported", str(images), *(f"{100 * mean:.1f}" for mean in means), style="bold")
    return table


def tasks_of(report: PatchReport, role: str) -> list[ReportTask]:
    """Return the report's tasks of one role, `patching` or `supported`."""
    return [task for task in report.tasks if task.role == role]


def mean_accuracy(tasks: Sequence[ReportTask], column: str) -> float:
    """Return the mean test accuracy of the tasks in [0, 1], each task weighing the same."""
    accuracies: list[float] = [getattr(task.test, column).accuracy for task in tasks]
    return sum(accuracies) / len(accuracies)


def supported_change(report: PatchReport, column: str) -> float:
    """Return by how much the supported tasks' mean test accuracy differs from zero-shot, in [-1, 1]."""
    supported = tasks_of(report, "supported")
    return mean_accuracy(supported, column) - mean_accuracy(supported, "zero_shot")


def _row(plain: ReportTask, anchored: ReportTask) -> list[str]:
    scores = [getattr(plain.test, column) for column in COLUMNS] + [anchored.test.patched]
    accuracies = [f"{100 * score.accuracy:.1f}" for score in scores]
    return [escape(clean(plain.name)), plain.role, str(scores[-1].total), *accuracies]
