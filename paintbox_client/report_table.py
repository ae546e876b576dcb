"""A report as an HTML table, for pages and notebooks."""

from __future__ import annotations

from html import escape

from paintbox_client.cleaning import clean
from paintbox_client.records import JsonObject

_COLUMNS = ("Task", "Role", "Zero-shot", "Fine-tuned", "Patched", "Change (95 %)")


def write_table(report: JsonObject) -> str:
    """Return a table with a row for each task of a report: test accuracies, and the change by the patch."""
    rows = []
    for task in report["tasks"]:
        scores = task.get("test") or task["validation"]
        accuracies = (_percent(scores.get(at)) for at in ("zero_shot", "fine_tuned", "patched"))
        cells = (task["name"], task["role"], *accuracies, _change(task))
        rows.append("".join(f"<td>{escape(clean(cell))}</td>" for cell in cells))
    head = "".join(f"<th>{each}</th>" for each in _COLUMNS)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def summarise(report: JsonObject) -> str:
    """Return a sentence and the table: how a notebook shows a report."""
    title = f"Version {report.get('version_id')}, alpha {report['alpha']:g}: {clean(report['reason'])}"
    return f"<p>{escape(title)}</p>{write_table(report)}"


def _percent(score: JsonObject | None) -> str:
    return "-" if score is None else f"{score['accuracy']:.1%}"


def _change(task: JsonObject) -> str:
    change = task.get("change") or {}
    if change.get("change_points") is None:
        return "-"
    return f"{change['change_points']:+.1f} ({change['low_points']:+.1f} … {change['high_points']:+.1f})"
