"""What to protect: alpha chosen with one supported task, measured on the others."""

from __future__ import annotations

from recipes.studies.pages import Results, Table, spread
from recipes.studies.runs import Study, mean_accuracy

QUESTION = "What to protect: alpha chosen with one supported task, measured on the others"


def run(study: Study) -> Results:
    """Choose alpha with each supported task alone, with all, and with none."""
    choices = {name: [name] for name in study.held} | {"all of them": list(study.held)}
    tables = []
    for name in study.names():
        task, rows = study.task(name), []
        for chosen, protected in choices.items():
            alphas, gains, kept, lost = [], [], [], []
            for seed in range(study.seeds):
                held = {each: study.held[each] for each in protected}
                others = [each for other, each in study.held.items() if other not in protected]
                result = study.patch([task], held, seed=seed, others=others)
                change = {
                    each: 100 * (result.patched[each].accuracy - result.zero_shot[each].accuracy) for each in study.held
                }
                alphas.append(result.stages[0].search.choice.alpha)
                gains.append(mean_accuracy(result.patched, [name]))
                kept.append(sum(change[each] for each in protected) / len(protected))
                lost.append(min(change.values()))
            rows.append([chosen, spread(alphas, 2), spread(gains), spread(kept, 2), spread(lost, 2)])
            print(f"{name}: {' | '.join(rows[-1])}", flush=True)
        head = ["alpha chosen with", "alpha", "patched task, %", "mean change of the protected", "worst change of all"]
        tables.append(Table(head, rows, f"{name}: test splits; changes in points; mean over seeds, least and largest."))
    return Results(tables)
