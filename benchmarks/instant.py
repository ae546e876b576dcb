"""The instant patch on digits: accuracy by images a class, what supported tasks lose in union lists, the time.

Each draw of images is fitted, and its coefficient is chosen by rule `combined` on validation splits. Figures are those
of the test splits. With `--service`, the time from the request to a version that can be activated is measured instead,
at a running installation that has the data sets.

    python benchmarks/instant.py [--seeds N] [--keep statistics] [--on fashion] [--json FILE]
    python benchmarks/instant.py --service URL --task ds_digits --supported ds_food ds_objects
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

import torch
from _cache import CACHE
from _report import Figure, parser, report
from _tasks import patching, supported

from paint_core.data import Task
from paint_core.evaluation.feature_cache import FeatureCache, FolderFeatureCache
from paint_core.models import BaseModel, load_base
from paint_core.patching import InstantResult, PatchPlan, run_instant
from paint_core.patching.plan import Keep
from paintbox_client import Client

SHOTS = (1, 4, 16)
ACCURACY, FOUR_SHOTS, UNION_DROP, SECONDS = 95.0, 75.0, 0.5, 5.0


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, default=5, help="draws of few images, by which the mean is taken")
    arguments.add_argument("--service", help="URL of a running service")
    arguments.add_argument("--task", help="its data set to improve on")
    arguments.add_argument("--supported", nargs="*", default=[], help="its data sets that must not get worse")
    arguments.add_argument("--keep", choices=get_args(Keep), default="features", help="what the head term keeps")
    arguments.add_argument("--on", choices=("digits", "fashion"), default="digits", help="the task without a service")
    options = arguments.parse_args()
    if options.service:
        report([_time(options.service, options.task, options.supported)], options.json)
        return
    base = load_base("starter")
    (task,) = patching(base, [options.on]).values()
    held = supported(base)
    features = FolderFeatureCache(CACHE / "instant", 1 << 30)
    figures = _full(run(base, task, held, features, options.keep), options.on)
    for shots in SHOTS[1:2] if options.quick else SHOTS:
        if shots == 1 and options.keep == "statistics":
            continue  # one image has no scatter
        runs = [run(base, draw(task, shots, seed), held, features, options.keep) for seed in range(options.seeds)]
        found = statistics.mean(100 * each.patch.patched[options.on].accuracy for each in runs)
        is_limited = shots == 4 and options.on == "digits"
        figures.append(Figure(f"{options.on}_{shots}_a_class", found, "%", FOUR_SHOTS if is_limited else None))
    report(figures, options.json)


def run(base: BaseModel, task: Task, held: Mapping[str, Task], features: FeatureCache, keep: Keep) -> InstantResult:
    """Return the instant patch of a task."""
    plan = PatchPlan(method="instant", keep=keep)
    return run_instant(base, [task], list(held.values()), plan, feature_cache=features)


def draw(task: Task, shots: int, seed: int) -> Task:
    """Return the task with so many training images a class."""
    assert task.train is not None
    order = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(seed))
    labels = task.train.labels[order]
    kept = torch.cat([order[labels == label][:shots] for label in labels.unique()])
    return replace(task, train=task.train.subset(kept))


def _full(result: InstantResult, name: str) -> list[Figure]:
    patch = result.patch
    own = [abs(patch.patched[each].correct - patch.zero_shot[each].correct) for each in patch.on_union["patched"]]
    drops = {
        each: 100 * (patch.on_union["zero_shot"][each].accuracy - score.accuracy)
        for each, score in patch.on_union["patched"].items()
    }
    print({each: round(-drop, 2) for each, drop in drops.items()}, f"alpha {patch.stages[0].search.choice.alpha:g}")
    accuracy = 100 * (result.fit.accuracy or 0)
    return [
        Figure(f"{name}_test", 100 * patch.patched[name].accuracy, "%", ACCURACY if name == "digits" else None),
        Figure(f"{name}_leave_one_out", accuracy, "%"),
        Figure("supported_changed_on_own_labels", float(sum(own)), "images", 0, at_most=True),
        Figure("worst_supported_drop_on_union", max(drops.values()), "points", UNION_DROP, at_most=True),
    ]


def _time(url: str, task: str, held: list[str]) -> Figure:
    client = Client(url)
    started = time.perf_counter()
    job = client.create_patch(tasks=[task], supported=held, method="instant", name="timed").job
    client.wait_for_job(job.id)
    return Figure("request_to_version", time.perf_counter() - started, "s", SECONDS, at_most=True)


if __name__ == "__main__":
    main()
