"""Scale: are larger models easier to patch? A ladder of towers that were trained alike."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paint_core.models import BaseModel, load_base
from paint_core.patching import PatchResult
from recipes.studies.pages import Drawing, Results, Table, new_plot, spread
from recipes.studies.runs import Study, mean_accuracy

QUESTION = "Scale: are larger models easier to patch?"
_DIGITS = {
    "zero-shot, %": 1,
    "patched, %": 1,
    "supported before, %": 1,
    "change, points": 2,
    "alpha": 2,
    "distance to optimal, points": 2,
    "cosine of the weights": 4,
    "norm of the update": 4,
}
_DISTANCE = "distance to optimal, points"

Measured = Mapping[str, Sequence[Mapping[str, float]]]
"""By task, a mapping per seed of what `_DIGITS` names."""


@dataclass(frozen=True)
class Rung:
    """What was found with one model.

    Attributes:
        parameters: of its image tower.
        measured: of its patches.
        name: of a model beside the ladder.
    """

    parameters: int
    measured: Measured
    name: str = ""

    @property
    def title(self) -> str:
        """Its size in words, after its name."""
        return f"{self.name} {self.parameters / 1e6:.1f} M".lstrip()

    def means(self, what: str) -> list[float]:
        """Return the mean over all tasks for every seed."""
        return [statistics.mean(each[what] for each in seeds) for seeds in zip(*self.measured.values(), strict=True)]


def run(study: Study, ladder: Sequence[Path]) -> Results:
    """Patch every model of a ladder in the same way, and beside them the base of the study.

    Args:
        study: whose base is replaced by each model in turn.
        ladder: open_clip folders.
    """
    rungs = []
    for base, name in (*((load_rung(folder), "") for folder in ladder), (study.base, study.base.ref)):
        here = replace(study, base=base)
        measured = {task: _measure(here, task) for task in here.names()}
        rungs.append(Rung(sum(each.numel() for each in base.visual.parameters()), measured, name))
        print(" | ".join(_row(rungs[-1])), flush=True)
    return Results([_means(rungs), _distances(rungs)], {"distance": _draw(rungs)})


def load_rung(folder: Path) -> BaseModel:
    """Load a model of the ladder; it is asked and fine-tuned as the starter is, whose recipe made it."""
    return replace(load_base(f"local-dir:{folder}"), ref="starter")


def _measure(study: Study, name: str) -> list[dict[str, float]]:
    task = study.task(name)
    found = []
    for seed in range(study.seeds):
        found.append(_values(study.patch([task], seed=seed), name, list(study.held([task]))))
        print(name, *(f"{what} {value:.{_DIGITS[what]}f}" for what, value in found[-1].items()), sep=", ", flush=True)
    return found


def _values(result: PatchResult, name: str, held: Sequence[str]) -> dict[str, float]:
    before = mean_accuracy(result.zero_shot, held)
    return {
        "zero-shot, %": mean_accuracy(result.zero_shot, [name]),
        "patched, %": mean_accuracy(result.patched, [name]),
        "supported before, %": before,
        "change, points": mean_accuracy(result.patched, held) - before,
        "alpha": result.stages[0].search.choice.alpha,
        _DISTANCE: result.distance_to_optimal,
        "cosine of the weights": result.update.cosine,
        "norm of the update": result.update.relative_norm,
    }


def _means(rungs: Sequence[Rung]) -> Table:
    caption = "Mean over all patching tasks; over seeds the mean, the least and the largest of these means."
    return Table(["tower", *_DIGITS], [_row(rung) for rung in rungs], caption)


def _row(rung: Rung) -> list[str]:
    return [rung.title, *(spread(rung.means(what), digits) for what, digits in _DIGITS.items())]


def _distances(rungs: Sequence[Rung]) -> Table:
    rows = [
        [name, *(spread([each[_DISTANCE] for each in rung.measured[name]], _DIGITS[_DISTANCE]) for rung in rungs)]
        for name in rungs[0].measured
    ]
    return Table(["task", *(rung.title for rung in rungs)], rows, "Distance to optimal of each task, in points.")


def _draw(rungs: Sequence[Rung]) -> Drawing:
    drawing, axes = new_plot("parameters of the image tower", _DISTANCE)
    for chosen, style in (
        ([each for each in rungs if not each.name], "o-"),
        ([each for each in rungs if each.name], "s"),
    ):
        seeds = [rung.means(_DISTANCE) for rung in chosen]
        middles = [statistics.mean(each) for each in seeds]
        below = [middle - min(each) for middle, each in zip(middles, seeds, strict=True)]
        above = [max(each) - middle for middle, each in zip(middles, seeds, strict=True)]
        label = ", ".join(each.name for each in chosen) or "ladder"
        sizes = [each.parameters for each in chosen]
        axes.errorbar(sizes, middles, (below, above), fmt=style, capsize=3, label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.legend()
    return drawing
