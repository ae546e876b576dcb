"""A patch's report as the table that the demo prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

COLUMNS = ("zero_shot", "fine_tuned", "patched")
_TITLES = ("Zero-shot", "Fine-tuned", "Patched")


def build_table(report: dict[str, Any]) -> Table:
    """Return test accuracies, one row a task: before, fully fine-tuned, and at the chosen alpha."""
    table = Table(title="Accuracy on test images (%)")
    table.add_column("Task")
    table.add_column("Role")
    table.add_column("Images", justify="right")
    for title in _TITLES:
        table.add_column(title, justify="right")
    for task in report["tasks"]:
        table.add_row(*_row(task), end_section=task is _last_patching(report))
    supported = tasks_of(report, "supported")
    if supported:
        means = [f"{100 * mean_accuracy(supported, column):.1f}" for column in COLUMNS]
        images = sum(task["test"]["patched"]["total"] for task in supported)
        table.add_section()
        table.add_row("mean", "supported", str(images), *means, style="bold")
    return table


def tasks_of(report: dict[str, Any], role: str) -> list[dict[str, Any]]:
    """Return the report's tasks of one role, `patching` or `supported`."""
    return [task for task in report["tasks"] if task["role"] == role]


def mean_accuracy(tasks: Sequence[dict[str, Any]], column: str) -> float:
    """Return the mean test accuracy of the tasks in [0, 1], each task weighing the same."""
    accuracies: list[float] = [task["test"][column]["accuracy"] for task in tasks]
    return sum(accuracies) / len(accuracies)


def _row(task: dict[str, Any]) -> list[str]:
    scores = task["test"]
    accuracies = [f"{100 * scores[column]['accuracy']:.1f}" for column in COLUMNS]
    return [task["name"], task["role"], str(scores["patched"]["total"]), *accuracies]


def _last_patching(report: dict[str, Any]) -> dict[str, Any] | None:
    patching = tasks_of(report, "patching")
    return patching[-1] if patching else None
