"""Broad transfer: what a patch on half of a task's classes does to the other half."""

from __future__ import annotations

import torch

from recipes.studies.pages import Results, Table, spread
from recipes.studies.runs import Study, mean_accuracy
from recipes.studies.tasks import of_classes

QUESTION = "Broad transfer: half of the classes patched, the other half measured"


def run(study: Study) -> Results:
    """Patch random halves in both directions."""
    rows = []
    for name in study.names():
        task, found = study.task(name), {"before": [], "after": [], "own": [], "supported": []}  # type: ignore[var-annotated]
        held = study.held([task])
        for seed in range(study.seeds):
            order = torch.randperm(len(task.test.classnames), generator=torch.Generator().manual_seed(seed)).tolist()
            half = len(order) // 2
            for first, second in ((order[:half], order[half:]), (order[half:], order[:half])):
                patched = of_classes(task, sorted(first), f"{name}, patched half")
                other = of_classes(task, sorted(second), f"{name}, other half")
                result = study.patch([patched], seed=seed, others=[other])
                before, after = (mean_accuracy(scores, [other.name]) for scores in (result.zero_shot, result.patched))
                found["before"].append(before)
                found["after"].append(after)
                found["own"].append(mean_accuracy(result.patched, [patched.name]))
                change = mean_accuracy(result.patched, held) - mean_accuracy(result.zero_shot, held)
                found["supported"].append(change)
        gains = [after - before for before, after in zip(found["before"], found["after"], strict=True)]
        rows.append(
            [
                name,
                *(spread(each) for each in (found["before"], found["after"], gains, found["own"])),
                spread(found["supported"], 2),
            ]
        )
        print(" | ".join(rows[-1]), flush=True)
    head = ["task", "other half before", "other half after", "gain, points", "patched half after", "supported, points"]
    caption = (
        "Accuracy on test splits among the classes of a half, in %; mean over seeds and both directions, least and "
        "largest."
    )
    return Results([Table(head, rows, caption)])
