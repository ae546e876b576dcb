"""Several patches: joint, one after the other, side by side, merged, and one of them taken back."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from paint_core.data import Task
from paint_core.evaluation import Score, evaluate
from paint_core.patching.plan import Merge
from paint_core.weights import mixed_copy
from recipes.studies.pages import Results, Table, spread
from recipes.studies.runs import Study, mean_accuracy

QUESTION = "Several patches at once: joint, sequential, parallel, merged; and one taken back"
WANTED = ("digits", "fashion", "gtsrb", "clothing", "grocery", "mnist")
NUM_TASKS = 4
MERGES: tuple[Merge, ...] = ("average", "task_arithmetic", "ties", "tsv", "iso", "ace")

_Pair = tuple[float, float]
"""Mean accuracy on the patching tasks and on the supported tasks, in percent."""


def run(study: Study) -> Results:
    """Patch the same tasks in every way."""
    names = study.tasks.known(WANTED)[: 2 if study.quick else NUM_TASKS]
    tasks = [study.task(name) for name in names]
    found: dict[str, list[_Pair]] = {}
    undone: dict[str, list[Mapping[str, Score]]] = {}
    for seed in range(study.seeds):
        for way, pair in _ways(study, tasks, seed):
            found.setdefault(way, []).append(pair)
            print(f"seed {seed}, {way}: patching {pair[0]:.1f} %, supported {pair[1]:.1f} %", flush=True)
        for what, scores in _undo(study, tasks, seed):
            undone.setdefault(what, []).append(scores)
    rows = [
        [way, *(spread([pair[which] for pair in pairs]) for which in (0, 1)), spread([sum(pair) / 2 for pair in pairs])]
        for way, pairs in found.items()
    ]
    caption = (
        f"{', '.join(names)}: mean accuracy on test splits, in %; mean over seeds, least and largest. A seed is also "
        "an order of the sequential patches."
    )
    ways = Table(["way", "patching tasks", "supported tasks", "mean of both"], rows, caption)
    return Results([ways, _undone(names, list(study.held(tasks)), undone)])


def _ways(study: Study, tasks: Sequence[Task], seed: int) -> Iterator[tuple[str, _Pair]]:
    added = study.patch(tasks, seed=seed, method="parallel", anchored=True, merge="task_arithmetic")
    yield "unpatched", _pair(study, tasks, added.zero_shot)
    yield "a model for each task", _pair(study, tasks, {**added.zero_shot, **added.specialised})
    config = study.config(seed, anchored=True)
    longer = replace(config, iterations=len(tasks) * config.iterations)
    yield "joint", _pair(study, tasks, study.patch(tasks, method="joint", anchored=True, config=longer).patched)
    shuffled = random.Random(seed).sample(tasks, len(tasks))  # as in the paper, the seed is the order
    patch = study.patch(shuffled, seed=seed, method="sequential", anchored=True)
    yield "sequential", _pair(study, tasks, patch.patched)
    for merge in MERGES:
        patch = study.patch(tasks, seed=seed, method="parallel", anchored=True, merge=merge)
        yield f"parallel, {merge}", _pair(study, tasks, patch.patched)


def _undo(study: Study, tasks: Sequence[Task], seed: int) -> Iterator[tuple[str, Mapping[str, Score]]]:
    """Yield the scores of four patches that were added up, and of the same without the first one's term."""
    patch = study.patch(tasks, seed=seed, method="parallel", anchored=True, merge="task_arithmetic")
    yield "unpatched", patch.zero_shot
    yield "all patches", patch.patched
    own = f"task:{tasks[0].name}"
    terms = patch.mix_terms()
    visual = mixed_copy(study.base.visual, [each for each in terms if each.task_vector is not patch.vectors[own]])
    everything = (*tasks, *study.held(tasks).values())
    yield (
        f"{tasks[0].name} taken back",
        {each.name: evaluate(visual, study.base, each.head, each.test) for each in everything},
    )


def _undone(names: Sequence[str], held: Sequence[str], undone: Mapping[str, Sequence[Mapping[str, Score]]]) -> Table:
    rows = [
        [
            what,
            *(spread([100 * each[name].accuracy for each in scores]) for name in names),
            spread([mean_accuracy(each, held) for each in scores]),
        ]
        for what, scores in undone.items()
    ]
    return Table(["patches added up", *names, "supported"], rows, f"The patch of {names[0]} taken out again, in %.")


def _pair(study: Study, tasks: Sequence[Task], scores: Mapping[str, Score]) -> _Pair:
    return mean_accuracy(scores, [task.name for task in tasks]), mean_accuracy(scores, study.held(tasks))
