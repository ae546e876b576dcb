"""How much data: what images a class buy, in every way to patch."""

from __future__ import annotations

from collections.abc import Sequence

from paint_core.alpha.options import Rule
from paint_core.data import Task
from paint_core.errors import NoAcceptableAlphaError
from paint_core.patching import PatchResult
from recipes.studies.pages import Drawing, Results, Table, new_plot, spread
from recipes.studies.runs import Study, mean_accuracy
from recipes.studies.tasks import draw_shots, without_validation

QUESTION = "How many images a class a patch needs"
RULES: tuple[Rule, ...] = ("combined", "certified")
WANTED = ("digits", "gtsrb")
SHOTS = (1, 3, 10, 30, 100, 300)
FOLDED, FOLDS, FOLD_SHOTS = "digits", 5, (10,)
"""Where alpha is chosen by folds, too, which takes six times the training."""
_COLUMNS = ("accuracy", "alpha", "change")


def run(study: Study) -> Results:
    """Patch with a few images a class, drawn over seeds."""
    shots = SHOTS[1:3] if study.quick else SHOTS
    tables, curves = [], {}
    for name in study.names(WANTED):
        task = study.task(name)
        assert task.train is not None
        most = int(task.train.labels.bincount().max())
        rows = []
        for count in [each for each in shots if each <= most]:
            rows.append([str(count), *_measure(study, task, count)])
            print(f"{name}, {' | '.join(rows[-1])}", flush=True)
        head = ["images a class", "instant", "anchored", "alpha", "supported", "certified", "alpha", "supported"]
        caption = f"{name}: accuracy on its test split and mean change on the supported tasks, in % and points."
        tables.append(Table(head, rows, caption))
        if name == FOLDED:
            tables.append(_over_folds(study, task, [each for each in shots if each in FOLD_SHOTS]))
        curves[name] = [(int(row[0]), _middle(row[1]), _middle(row[2])) for row in rows]
    return Results(tables, {"curve": _draw(curves)})


def _measure(study: Study, task: Task, count: int) -> list[str]:
    found: dict[str, list[float]] = {}
    for seed in range(study.seeds):
        few = draw_shots(task, count, seed)
        found.setdefault("instant", []).append(mean_accuracy(study.instant([few]).patched, [task.name]))
        for rule in RULES:
            if (patch := _patch_or_none(study, few, seed, rule)) is not None:
                for what, value in zip(_COLUMNS, _of(study, task, patch), strict=True):
                    found.setdefault(f"{rule} {what}", []).append(value)
    columns = [f"{rule} {what}" for rule in RULES for what in _COLUMNS]
    digits = {"alpha": 2, "change": 2, "accuracy": 1}
    cells = [
        spread(found[each], digits[each.split()[1]]) + _of_all(len(found[each]), study.seeds)
        if each in found
        else "none"
        for each in columns
    ]
    return [spread(found["instant"]), *cells]


def _of_all(count: int, seeds: int) -> str:
    return "" if count == seeds else f", {count} of {seeds} seeds"


def _over_folds(study: Study, task: Task, shots: Sequence[int]) -> Table:
    rows = []
    for count in shots:
        found = [_of_folds(study, draw_shots(task, count, seed), seed) for seed in range(study.seeds)]
        accuracies, alphas, changes = zip(*found, strict=True)
        rows.append([str(count), spread(accuracies), spread(alphas, 2), spread(changes, 2)])
        print(f"{task.name}, folds, {' | '.join(rows[-1])}", flush=True)
    caption = f"{task.name}, anchored: alpha chosen by {FOLDS} folds of these images, without other validation images."
    return Table(["images a class", "accuracy", "alpha", "supported"], rows, caption)


def _of_folds(study: Study, few: Task, seed: int) -> tuple[float, float, float]:
    return _of(study, few, study.patch([without_validation(few)], seed=seed, anchored=True, folds=FOLDS))


def _patch_or_none(study: Study, few: Task, seed: int, rule: Rule) -> PatchResult | None:
    try:
        return study.patch([few], seed=seed, anchored=True, rule=rule)
    except NoAcceptableAlphaError:
        return None


def _of(study: Study, task: Task, patch: PatchResult) -> tuple[float, float, float]:
    """Return accuracy on the task, alpha, and the mean change of the supported tasks, in the order of the columns."""
    held = study.held([task])
    change = mean_accuracy(patch.patched, held) - mean_accuracy(patch.zero_shot, held)
    return mean_accuracy(patch.patched, [task.name]), patch.stages[0].search.choice.alpha, change


def _middle(cell: str) -> float:
    return float(cell.split()[0])


def _draw(curves: dict[str, list[tuple[int, float, float]]]) -> Drawing:
    drawing, axes = new_plot("training images a class", "accuracy on the patched task, %")
    for number, (name, points) in enumerate(curves.items()):
        shots = [each[0] for each in points]
        axes.plot(shots, [each[1] for each in points], f"C{number}^--", label=f"{name}, instant")
        axes.plot(shots, [each[2] for each in points], f"C{number}o-", label=f"{name}, anchored")
    axes.set_xscale("log")
    axes.legend()
    return drawing
