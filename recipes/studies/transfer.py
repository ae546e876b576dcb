"""Broad transfer: what a patch on half of a task's classes does to the other half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import spearmanr

from paint_core.data import Task
from recipes.studies.pages import Drawing, Results, Table, new_plot, spread
from recipes.studies.runs import Study, mean_accuracy
from recipes.studies.tasks import PATCHING, of_classes

QUESTION = "Broad transfer: half of the classes patched, the other half measured"
WANTED = (*PATCHING, "cifar10")
"""CIFAR-10 is supported elsewhere; here it is a task that the base knows without having seen its images."""


@dataclass(frozen=True)
class Half:
    """A patch of one half, in %.

    Attributes:
        chance: accuracy of guessing among the classes of the other half.
        before: accuracy among them before the patch.
        after: and after it.
        own: accuracy of the patched half after the patch.
        supported: change of the supported tasks, in points.
    """

    chance: float
    before: float
    after: float
    own: float
    supported: float

    @property
    def gain(self) -> float:
        """What the other half gains, in points."""
        return self.after - self.before


def run(study: Study) -> Results:
    """Patch random halves in both directions."""
    rows, found = [], {}
    for name in study.names(WANTED):
        task = study.task(name)
        found[name] = [
            _patch(study, task, *halves, seed) for seed in range(study.seeds) for halves in _halves(task, seed)
        ]
        rows.append(_row(name, found[name]))
        print(" | ".join(rows[-1]), flush=True)
    head = ["task", "other half before", "other half after", "gain, points", "patched half after", "supported, points"]
    caption = (
        "Accuracy on test splits among the classes of a half, in %; mean over seeds and both directions, least and "
        "largest."
    )
    every = [half for halves in found.values() for half in halves]
    if len(every) > 2:
        correlation = spearmanr([_known(each) for each in every], [each.gain for each in every]).statistic
        caption += (
            f" Over all {len(every)} halves, the rank correlation of the gain with how far the other half was above "
            f"chance before the patch is {correlation:.2f}."
        )
    return Results([Table(head, rows, caption)], {"known": _draw(found)})


def _halves(task: Task, seed: int) -> list[tuple[list[int], list[int]]]:
    order = torch.randperm(len(task.test.classnames), generator=torch.Generator().manual_seed(seed)).tolist()
    first, second = sorted(order[: len(order) // 2]), sorted(order[len(order) // 2 :])
    return [(first, second), (second, first)]


def _patch(study: Study, task: Task, first: Sequence[int], second: Sequence[int], seed: int) -> Half:
    held = study.held([task])
    patched = of_classes(task, first, f"{task.name}, patched half")
    other = of_classes(task, second, f"{task.name}, other half")
    result = study.patch([patched], seed=seed, others=[other])
    return Half(
        chance=100 / len(second),
        before=mean_accuracy(result.zero_shot, [other.name]),
        after=mean_accuracy(result.patched, [other.name]),
        own=mean_accuracy(result.patched, [patched.name]),
        supported=mean_accuracy(result.patched, held) - mean_accuracy(result.zero_shot, held),
    )


def _row(name: str, halves: Sequence[Half]) -> list[str]:
    columns = [(each.before, each.after, each.gain, each.own) for each in halves]
    return [
        name,
        *(spread(column) for column in zip(*columns, strict=True)),
        spread([each.supported for each in halves], 2),
    ]


def _known(half: Half) -> float:
    return half.before - half.chance


def _draw(found: Mapping[str, Sequence[Half]]) -> Drawing:
    drawing, axes = new_plot("other half before the patch, points above chance", "gain of the other half, points")
    for number, (name, halves) in enumerate(found.items()):
        axes.plot([_known(each) for each in halves], [each.gain for each in halves], f"C{number}o", label=name)
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.legend()
    return drawing
