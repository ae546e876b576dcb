"""Two versions side by side, on the command line."""

from __future__ import annotations

from paintbox_client.display import print_note, print_table
from paintbox_client.resources.versions import ComparedTask, ComparedVersions


def print_comparison(found: ComparedVersions) -> None:
    """Print what distinguishes two versions, and how both answered the images that they were evaluated on."""
    for side in (found.before, found.after):
        named = f" ({', '.join(side.aliases)})" if side.aliases else ""
        terms = ", ".join(f"{each.coefficient:g} x {each.task_vector_sha256[:12]}" for each in side.terms)
        alone = f"only it has {terms}" if terms else "no further terms"
        print_note(f"Version {side.id}{named}, {side.name!r}: {alone}.")
    if found.same_weights:
        print_note("Both have the same weights.")
    if found.tasks:
        columns = (
            "DATA SET",
            "SPLIT",
            f"VERSION {found.before.id}",
            f"VERSION {found.after.id}",
            "CHANGE",
            "LOST",
            "GAINED",
        )
        print_table(columns, [_row(each) for each in found.tasks])
    for each in found.uncompared:
        print_note(
            f"Version {each.missing} was not evaluated on {each.name or each.dataset} ({each.split}): compare with "
            f"--dataset {each.dataset}."
        )


def _row(task: ComparedTask) -> tuple[object, ...]:
    change = task.change
    shown = None
    if change is not None:
        shown = f"{change.change_points:+.1f} [{change.low_points:+.1f}, {change.high_points:+.1f}]"
    scores = (f"{100 * (each.accuracy or 0):.1f} %" for each in (task.before, task.after))
    return (task.name or task.dataset, task.split, *scores, shown, task.lost, task.gained)
