"""Scale: are larger models easier to patch? A ladder of towers that were trained alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from paint_core.models import load_base
from recipes.studies.pages import Drawing, Results, Table, new_plot, spread
from recipes.studies.runs import Study, mean_accuracy

QUESTION = "Scale: are larger models easier to patch?"
_Row = tuple[int, dict[str, list[float]]]


def run(study: Study, ladder: Sequence[Path]) -> Results:
    """Patch every model of a ladder in the same way.

    Args:
        study: whose base is replaced by each model in turn.
        ladder: open_clip folders.
    """
    found: dict[str, _Row] = {}
    for folder in ladder:
        base = load_base(f"local-dir:{folder}")
        here = replace(study, base=base)
        measured: dict[str, list[float]] = {}
        for name in here.names():
            task = here.task(name)
            held = here.held([task])
            for seed in range(here.seeds):
                result = here.patch([task], seed=seed)
                change = mean_accuracy(result.patched, held) - mean_accuracy(result.zero_shot, held)
                values = {
                    "zero-shot": mean_accuracy(result.zero_shot, [name]),
                    "patched": mean_accuracy(result.patched, [name]),
                    "supported": change,
                    "alpha": result.stages[0].search.choice.alpha,
                    "distance": result.distance_to_optimal,
                    "cosine": result.update.cosine,
                    "norm": result.update.relative_norm,
                }
                for what, value in values.items():
                    measured.setdefault(what, []).append(value)
        size = sum(parameter.numel() for parameter in base.visual.parameters())
        found[folder.name] = (size, measured)
        print(
            f"{folder.name}: " + ", ".join(f"{what} {spread(each, 3)}" for what, each in measured.items()), flush=True
        )
    return Results([_table(found)], {"distance": _draw(found)})


def _table(found: dict[str, _Row]) -> Table:
    columns = {"zero-shot": 1, "patched": 1, "supported": 2, "alpha": 2, "distance": 2, "cosine": 4, "norm": 4}
    rows = [
        [name, f"{size / 1e6:.1f} M", *(spread(measured[what], digits) for what, digits in columns.items())]
        for name, (size, measured) in found.items()
    ]
    head = ["tower", "parameters", "zero-shot, %", "patched, %", "supported, points", "alpha", "distance to optimal"]
    caption = "Over all patching tasks and seeds: mean, least and largest."
    return Table([*head, "cosine of the weights", "norm of the update"], rows, caption)


def _draw(found: dict[str, _Row]) -> Drawing:
    drawing, axes = new_plot("parameters of the image tower", "distance to optimal, points")
    sizes = [size for size, _ in found.values()]
    for at in range(len(next(iter(found.values()))[1]["distance"])):
        axes.plot(sizes, [measured["distance"][at] for _, measured in found.values()], color="0.8")
    middle = [sum(measured["distance"]) / len(measured["distance"]) for _, measured in found.values()]
    axes.plot(sizes, middle, "C0o-")
    axes.set_xscale("log")
    return drawing
