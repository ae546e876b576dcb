"""Ways to patch several tasks at once: which is best, and does the paper's order show?

One starter, four patching tasks (digits, Fashion-MNIST, counting pictograms, looks of pictograms) and four supported
ones. Every way is chosen on validation splits and reported on test splits: mean accuracy over the supported tasks, over
the patching tasks, and the mean of the two. Joint training gets as many steps as all the others together, so every way
costs the same training. Sequential rows are means over three orders.

The plain recipe makes a small model forget nearly everything, so that little alpha is left to any method. With
`--anchored` every run holds the features of an unlabelled pool in place (weight 60, 64 images a step: the defaults of
the service); the figures' names then begin with `anchored_`.

Fine-tuning runs are kept in `.benchmarks/`: stopped and started again, the program goes on where it was.

    python benchmarks/multitask.py [--quick] [--anchored] [--only merges] [--precision fp32|bf16] [--json FILE]
"""

from __future__ import annotations

import copy
import hashlib
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from _cache import CACHE, write_whole
from _report import Figure, parser, report
from _tasks import anchors, patching, supported
from _towers import identity, load
from _updates import RECIPE, update
from torch import Tensor

from paint_core.alpha import AlphaOptions
from paint_core.config.finetune import FinetuneConfig
from paint_core.data import Task
from paint_core.evaluation import Score, evaluate
from paint_core.models import BaseModel
from paint_core.patching import PatchPlan, PatchResult, run_patch
from paint_core.patching.journal import NoJournal, Resume
from paint_core.patching.plan import Merge
from paint_core.training.finetuning import finetune
from paint_core.weights import TaskVector, Term, load_task_vector, mix, mix_into, save_task_vector, task_vector

TOWER = "starter"
NUM_ORDERS = 3
MERGES: tuple[Merge, ...] = ("task_arithmetic", "ties", "tsv", "iso", "ace", "esm", "regmean")
QUICK_TASKS = ("counting", "looks")
ALPHA = AlphaOptions(rule="combined", strategy="interpolated")


@dataclass(frozen=True)
class Row:
    """One way, judged on test splits.

    Attributes:
        name: Of the way.
        supported: Mean accuracy over the supported tasks, in %.
        patching: Mean accuracy over the patching tasks, in %.
        note: What was chosen.
    """

    name: str
    supported: float
    patching: float
    note: str = ""

    @property
    def combined(self) -> float:
        """The mean of the two means, in %."""
        return (self.supported + self.patching) / 2


@dataclass(frozen=True, eq=False)
class Setting:
    """What all rows share.

    Attributes:
        base: The starter.
        tasks: To improve.
        held: The supported tasks.
        config: Of every fine-tuning run but the joint one.
        num_evaluations: Of the search for coefficients.
        pool: Anchor images, or None.
    """

    base: BaseModel
    tasks: tuple[Task, ...]
    held: tuple[Task, ...]
    config: FinetuneConfig
    num_evaluations: int
    pool: Tensor | None

    def row(self, name: str, scores: Mapping[str, Score], note: str = "") -> Row:
        """Return the row of some test scores."""
        return Row(name, _mean(scores, self.held), _mean(scores, self.tasks), note)

    def path(self, name: str, key: str) -> Path:
        """Return where a task vector of a row is kept; all that it depends on is in the name of the folder."""
        # A later update of a sequence starts where alpha was chosen, so what chooses alpha belongs to it.
        tasks = sorted((task.name, len(task.validation)) for task in (*self.tasks, *self.held))
        recipe = f"{identity(TOWER)} {self.config} {ALPHA} {tasks}"
        folder = hashlib.sha256(recipe.encode()).hexdigest()[:12]
        return CACHE / "multitask" / folder / name / f"{key.replace(':', '-')}.safetensors"

    def kept(self, path: Path, make: Callable[[], TaskVector]) -> TaskVector:
        """Return the task vector of a file, made now if there is none."""
        if not path.exists():
            write_whole(path, save_task_vector(make(), {}))
        return load_task_vector(path, self.base.visual.state_dict())

    def apart(self, task: Task) -> TaskVector:
        """Return the update of a task from the base, which many rows need."""
        if self.config == RECIPE:
            return update(TOWER, task.name, seed=0)
        return self.kept(self.path("apart", task.name), lambda: self.train(task, []))

    def train(self, task: Task, terms: Sequence[Term]) -> TaskVector:
        """Return the update of a fine-tuning run that starts at a mix."""
        assert task.train is not None
        start = mix(self.base.visual.state_dict(), terms)
        return task_vector(
            start, finetune(self.base, task.head, task.train, self.config, start=start, anchors=self.pool)
        )


class KeptVectors(NoJournal):
    """A journal that keeps the task vectors of one row.

    Args:
        setting: What all rows share.
        name: Of the row.
        apart: Keys of task vectors that were measured from the base.
    """

    def __init__(self, setting: Setting, name: str, apart: Mapping[str, Task]) -> None:
        self._setting, self._name, self._apart = setting, name, apart

    def task_vector(self, key: str, make: Callable[[Resume], TaskVector]) -> TaskVector:
        """Return the kept task vector, or the one that is made now."""
        if key in self._apart:
            return self._setting.apart(self._apart[key])
        return self._setting.kept(self._setting.path(self._name, key), lambda: make(Resume()))


def rows(setting: Setting, only_merges: bool = False) -> Iterator[Row]:
    """Yield a row for every way, as soon as it is judged."""
    parallel = patch(setting, "parallel", PatchPlan("parallel", setting.config, ALPHA))
    yield setting.row("unpatched", parallel.zero_shot)
    yield setting.row("specialised models", {**parallel.zero_shot, **parallel.specialised}, "one model per task")
    if not only_merges:
        yield from trained_together(setting)
    yield patched(setting, "parallel", parallel)
    if not only_merges:
        plan = PatchPlan(
            *("parallel", setting.config, ALPHA),
            coefficients="per_task",
            coefficient_evaluations=setting.num_evaluations,
        )
        yield patched(setting, "parallel, per task", patch(setting, "parallel", plan))
    for merge in MERGES:
        plan = PatchPlan("parallel", setting.config, ALPHA, merge=merge)
        yield patched(setting, f"parallel, {merge}", patch(setting, "parallel", plan))


def trained_together(setting: Setting) -> Iterator[Row]:
    """Yield the rows of the ways that do not train every task from the base."""
    longer = replace(
        setting.config,
        iterations=setting.config.iterations * len(setting.tasks),
        warmup_steps=setting.config.warmup_steps * len(setting.tasks),
    )
    yield patched(setting, "joint", patch(setting, "joint", PatchPlan("joint", longer, ALPHA)))
    orders = _orders(setting.tasks)
    yield mean_row("sequential", [sequential(setting, order) for order in orders])
    yield mean_row("sequential, no interpolation", [chain(setting, order) for order in orders])


def patch(setting: Setting, name: str, plan: PatchPlan, tasks: Sequence[Task] | None = None) -> PatchResult:
    """Return a patch, with its fine-tuning runs from the cache if they are there."""
    tasks = setting.tasks if tasks is None else tasks
    # A sequential patch measures only its first update from the base.
    apart = {"parallel": tasks, "sequential": tasks[:1]}.get(plan.method, ())
    journal = KeptVectors(setting, name, {f"task:{task.name}": task for task in apart})
    return run_patch(setting.base, tasks, setting.held, plan, anchors=setting.pool, journal=journal)


def patched(setting: Setting, name: str, result: PatchResult) -> Row:
    """Return the row of a patch."""
    note = ", ".join(f"{term.key.removeprefix('task:')} {term.coefficient:.2f}" for term in result.terms)
    return setting.row(name, result.patched, note)


def sequential(setting: Setting, order: Sequence[Task]) -> Row:
    """Return the row of a sequential patch in one order."""
    name = "-".join(["sequential", *(task.name for task in order)])
    return patched(setting, "sequential", patch(setting, name, PatchPlan("sequential", setting.config, ALPHA), order))


def chain(setting: Setting, order: Sequence[Task]) -> Row:
    """Return the row of fine-tuning on one task after the other, without any interpolation."""
    terms: list[Term] = []
    for index, task in enumerate(order):
        if index == 0:
            tau = setting.apart(task)
        else:
            path = setting.path("-".join(["chain", *(each.name for each in order[:index])]), task.name)
            tau = setting.kept(path, lambda task=task: setting.train(task, terms))  # type: ignore[misc]
        terms.append(Term(tau, 1.0))
    visual = copy.deepcopy(setting.base.visual)
    mix_into(visual, setting.base.visual.state_dict(), terms)
    everything = (*setting.tasks, *setting.held)
    return setting.row("", {task.name: evaluate(visual, setting.base, task.head, task.test) for task in everything})


def mean_row(name: str, of: Sequence[Row]) -> Row:
    """Return the mean of some rows."""
    note = "combined " + ", ".join(f"{row.combined:.1f}" for row in of)
    return Row(name, statistics.mean(row.supported for row in of), statistics.mean(row.patching for row in of), note)


def figures(found: Mapping[str, Row], prefix: str = "") -> list[Figure]:
    """Return every row's accuracies, and what the paper says of their order."""
    every = [
        Figure(f"{prefix}{_name(row)}_{what}", value, "%")
        for row in found.values()
        for what, value in (("supported", row.supported), ("patching", row.patching), ("combined", row.combined))
    ]
    gaps = {
        "joint_over_sequential": ("joint", "sequential"),
        "sequential_over_parallel": ("sequential", "parallel"),
        "parallel_over_unpatched": ("parallel", "unpatched"),
        "interpolation_over_plain_sequential": ("sequential", "sequential, no interpolation"),
        "per_task_over_scalar": ("parallel, per task", "parallel"),
    }
    return (
        every
        + [
            Figure(f"{prefix}{name}_points", found[better].combined - found[worse].combined, "points", target=0.0)
            for name, (better, worse) in gaps.items()
            if better in found and worse in found
        ]
        + merge_shares(found, prefix)
    )


def merge_shares(found: Mapping[str, Row], prefix: str) -> list[Figure]:
    """Return which share of the specialised models' gain each merge reaches, and the largest."""
    start, end = found["unpatched"].combined, found["specialised models"].combined
    shares = {
        name: 100 * (found[f"parallel, {name}"].combined - start) / (end - start)
        for name in MERGES
        if f"parallel, {name}" in found
    }
    figures = [Figure(f"{prefix}{name}_share_of_gain", share, "%") for name, share in shares.items()]
    return [*figures, Figure(f"{prefix}best_merge_share_of_gain", max(shares.values()), "%", target=60.0)]


def main() -> None:
    """Make the table, print it, and say whether the paper's order shows."""
    arguments = parser(__doc__)
    arguments.add_argument("--anchored", action="store_true", help="hold the features of an unlabelled pool in place")
    arguments.add_argument("--only", choices=["merges"], help="leave out the ways that train tasks together")
    arguments.add_argument("--precision", choices=("fp32", "bf16"), default=RECIPE.precision, help="of fine-tuning")
    options = arguments.parse_args()
    base = load(TOWER)
    names = {"names": QUICK_TASKS} if options.quick else {}
    tasks, limit = tuple(patching(base, **names).values()), 60 if options.quick else 120
    config = replace(RECIPE, precision=options.precision)
    if options.quick:
        config = replace(config, iterations=40, warmup_steps=4)
    pool = anchors(base) if options.anchored else None
    if pool is not None:
        config = replace(config, anchor_weight=60.0, anchor_batch_size=64)
    setting = Setting(base, tasks, tuple(supported(base, limit).values()), config, 12 if options.quick else 60, pool)
    found: dict[str, Row] = {}
    print(f"{'on test splits, in %':30} supported  patching  combined    seconds  chosen", flush=True)
    for row, seconds in _timed(rows(setting, options.only == "merges")):
        found[row.name] = row
        accuracies = f"{row.supported:9.2f} {row.patching:9.2f} {row.combined:9.2f}"
        print(f"{row.name:30} {accuracies}  {seconds:9.0f}  {row.note}", flush=True)
    shown = figures(found, "anchored_" if options.anchored else "")
    order = [figure for figure in shown if figure.target is not None]
    print(f"the paper's order {'shows' if all(figure.is_met for figure in order) else 'DOES NOT SHOW'}")
    report(shown, options.json)


def _orders(tasks: Sequence[Task]) -> list[tuple[Task, ...]]:
    """Some orders, seeded; fewer for two tasks, which have no more."""
    orders: dict[tuple[str, ...], tuple[Task, ...]] = {}
    for seed in range(100):
        order = tuple(random.Random(seed).sample(tasks, len(tasks)))
        orders.setdefault(tuple(task.name for task in order), order)
    return list(orders.values())[:NUM_ORDERS]


def _timed(items: Iterator[Row]) -> Iterator[tuple[Row, float]]:
    started = time.perf_counter()
    for item in items:
        yield item, time.perf_counter() - started
        started = time.perf_counter()


def _mean(scores: Mapping[str, Score], tasks: Sequence[Task]) -> float:
    return 100 * sum(scores[task.name].accuracy for task in tasks) / len(tasks)


def _name(row: Row) -> str:
    return row.name.replace(",", "").replace(" ", "_")


if __name__ == "__main__":
    main()
