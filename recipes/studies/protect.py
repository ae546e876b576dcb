"""What to protect: alpha chosen with one supported task, measured on the others.

All choices are made from one validation curve of a patch, and its test curve says what they do: they cost no training.
"""

from __future__ import annotations

from collections.abc import Sequence

from paint_core.alpha import CurvePoint, choose_alpha
from recipes.studies.pages import Results, Table, spread
from recipes.studies.runs import Study, mean_accuracy

QUESTION = "What to protect: alpha chosen with one supported task, measured on the others"


def run(study: Study) -> Results:
    """Choose alpha with each supported task alone, and with all."""
    tables = []
    for name in study.names():
        task = study.task(name)
        held = list(study.held([task]))
        choices = {each: [each] for each in held} | {"all of them": held}
        found: dict[str, list[Sequence[float]]] = {chosen: [] for chosen in choices}
        for seed in range(study.seeds):
            patch = study.patch([task], seed=seed)
            tests = study.test_curve(task, patch)
            for chosen, protected in choices.items():
                alpha = choose_alpha(patch.stages[0].search.curve, [name], protected).alpha
                found[chosen].append((alpha, *_effects(tests, alpha, name)))
        rows = [
            [chosen, *(spread(values, digits) for values, digits in zip(zip(*each, strict=True), _DIGITS, strict=True))]
            for chosen, each in found.items()
        ]
        print("\n".join(f"{name}: {' | '.join(row)}" for row in rows), flush=True)
        head = ["alpha chosen with", "alpha", "patched task, %", "combined, %", "mean change", "worst change"]
        caption = (
            f"{name}: test splits. Combined is the mean of the patched task and the mean of all supported tasks; "
            "changes in points, of all supported tasks. Mean over seeds, least and largest."
        )
        tables.append(Table(head, rows, caption))
    return Results(tables)


_DIGITS = (2, 1, 1, 2, 2)


def _effects(tests: Sequence[CurvePoint], alpha: float, name: str) -> tuple[float, float, float, float]:
    """Return the patched task's and the combined accuracy in percent, mean and worst change of the others in points."""
    before, after = tests[0].scores, min(tests, key=lambda point: abs(point.alpha - alpha)).scores
    changes = {each: 100 * (after[each].accuracy - before[each].accuracy) for each in before if each != name}
    own, others = mean_accuracy(after, [name]), mean_accuracy(after, changes)
    return own, (own + others) / 2, sum(changes.values()) / len(changes), min(changes.values())
