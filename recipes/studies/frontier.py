"""The frontier: what is gained on a task against what is lost on the others, as alpha goes from 0 to 1."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from paint_core.data import Task
from paint_core.evaluation import Score
from recipes.studies.pages import Drawing, Results, Table, new_plot, spread
from recipes.studies.runs import Study, mean_accuracy

QUESTION = "The frontier: gains on a task against losses on the others"
WAYS = ("zero-shot", "fine-tuned", "patched", "anchored, fine-tuned", "anchored, patched", "instant")

_Point = tuple[float, float]
"""Accuracy on the patching task, and mean accuracy on the supported tasks, in percent."""


def run(study: Study) -> Results:
    """Patch each task in every way, over seeds."""
    found: dict[str, dict[str, list[_Point]]] = {}
    alphas: dict[str, list[float]] = {}
    curves: list[list[_Point]] = []
    for name in study.names():
        task = study.task(name)
        ways: dict[str, list[_Point]] = {way: [] for way in WAYS}
        alphas[name] = []
        for seed in range(study.seeds):
            plain, anchored = (study.patch([task], seed=seed, anchored=each) for each in (False, True))
            for prefix, patch in (("", plain), ("anchored, ", anchored)):
                ways[f"{prefix}fine-tuned"].append(_point(study, task, patch.finetuned))
                ways[f"{prefix}patched"].append(_point(study, task, patch.patched))
            ways["zero-shot"].append(_point(study, task, plain.zero_shot))
            alphas[name].append(plain.stages[0].search.choice.alpha)
            curves.append([_point(study, task, each.scores) for each in study.test_curve(task, plain)])
        ways["instant"].append(_point(study, task, study.instant([task]).patched))
        found[name] = ways
        print(f"{name}: " + ", ".join(f"{way} {spread([each[0] for each in points])}" for way, points in ways.items()))
    tables = [_table(found, alphas, which) for which in (0, 1)]
    return Results(tables, {"curve": _draw(curves, found)})


def _point(study: Study, task: Task, scores: Mapping[str, Score]) -> _Point:
    return mean_accuracy(scores, [task.name]), mean_accuracy(scores, study.held([task]))


def _table(found: Mapping[str, Mapping[str, list[_Point]]], alphas: Mapping[str, list[float]], which: int) -> Table:
    what = ("Accuracy on the patched task", "Mean accuracy on the supported tasks")[which]
    ways = list(WAYS)
    rows = [
        [name, *(spread([point[which] for point in points[way]]) for way in ways), spread(alphas[name], 2)]
        for name, points in found.items()
    ]
    middle = [
        f"{statistics.mean(point[which] for points in found.values() for point in points[way]):.1f}" for way in ways
    ]
    rows.append(["mean", *middle, f"{statistics.mean(each for row in alphas.values() for each in row):.2f}"])
    return Table(["task", *ways, "alpha"], rows, f"{what}, test split, in %; mean over seeds, least and largest.")


def _draw(curves: Sequence[Sequence[_Point]], found: Mapping[str, Mapping[str, list[_Point]]]) -> Drawing:
    drawing, axes = new_plot("mean accuracy on the supported tasks, %", "accuracy on the patched task, %")
    length = min(map(len, curves))
    middle = [[statistics.mean(curve[at][which] for curve in curves) for at in range(length)] for which in (0, 1)]
    for curve in curves:
        axes.plot([point[1] for point in curve], [point[0] for point in curve], color="0.8", linewidth=0.8)
    axes.plot(middle[1], middle[0], color="C0", marker=".", markevery=10, label="alpha from 0 to 1, mean")
    for way, marker in (("anchored, patched", "s"), ("instant", "^")):
        points = [point for ways in found.values() for point in ways[way]]
        x, y = (statistics.mean(point[which] for point in points) for which in (1, 0))
        axes.plot(x, y, marker, label=f"{way}, mean")
    axes.legend()
    return drawing
