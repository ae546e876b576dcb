"""What anchors are worth to a fine-tuning of the starter, and which form of anchor holds it best.

1. Forms, at the same steps and images: the feature anchor of `paint_core` (1 - cosine) against the logit distillation
   of ZSCL (Zheng et al., ICCV 2023: KL divergence of theta_0's softmax over a list of texts, temperature 2), each at a
   few weights, judged on validation splits. The texts are the classnames of the supported tasks, which favours ZSCL.
2. The kept form at the recommended weight: patching and supported accuracy on test splits, alpha chosen on validation
   splits, along both paths and by all rules, with and without anchors.

    python benchmarks/anchoring.py [--quick] [--json FILE] [--only PART,...] [--rows ROW,...] [--tasks TASK,...]
        [--seeds N] [--precision fp32|bf16] [--splits vendors|mixed]

PART is `forms` or a rule; ROW is `flat`, `lines`, `anchored` or `anchored_lines`. Trained updates and the curves along
their paths are kept in `.benchmarks/anchoring/`, one file a seed, so a run that was stopped goes on where it was, and
another rule is chosen from kept curves within seconds. The first run takes an hour on two cores.

With `--splits mixed` the supported tasks' validation and test images are divided by chance. As they are bundled, each
split shows another vendor's pictures, and a limit that is certified for one says nothing of the other.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from _cache import CACHE, write_whole
from _patch import Outcome, choose, outcome, trained
from _report import Figure, parser, report
from _tasks import anchors, patching, supported
from _towers import identity
from torch import Tensor

from paint_core.alpha import AlphaOptions, CurvePoint, Goal, Path, evaluate_curve
from paint_core.config.precision import Precision
from paint_core.data import Task
from paint_core.errors import NoAcceptableAlphaError
from paint_core.evaluation import Score
from paint_core.models import BaseModel, build_head, load_base, prompts
from paint_core.training.anchoring import FEATURE_ANCHOR, AnchorLoss, drop_evaluation_images
from paint_core.weights import TaskVector, Term

WEIGHTS = {"plain": (0.0,), "feature": (7.0, 20.0, 60.0), "logit": (0.3, 1.0, 3.0)}
RECOMMENDED_WEIGHT = 20.0
TEMPERATURE = 2.0
MAX_DROP_POINTS = 2.0


class LogitAnchor:
    """ZSCL's form: theta_0's softmax over texts, at a temperature; KL divergence times its square."""

    def __init__(self, texts: Tensor, scale: float) -> None:
        """Take unit text embeddings [T, D] and the model's logit scale."""
        self._texts, self._factor = texts, scale / TEMPERATURE

    def targets(self, features: Tensor) -> Tensor:
        """Return the log-probabilities [M, T]."""
        return F.log_softmax(self._factor * F.normalize(features, dim=-1) @ self._texts.T, dim=-1)

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the mean divergence, times the squared temperature."""
        now = self.targets(features.to(targets.dtype))
        return F.kl_div(now, targets, reduction="batchmean", log_target=True) * TEMPERATURE**2


@dataclass(frozen=True)
class Run:
    """One fine-tuning: its form (`plain`, `feature`, `logit`), weight, task and seed."""

    form: str
    weight: float
    task: str
    seed: int


@dataclass(frozen=True, eq=False)
class Bench:
    """What every run shares."""

    base: BaseModel
    tasks: dict[str, Task]
    held: dict[str, Task]
    iterations: int
    precision: Precision = "fp32"
    splits: str = "vendors"

    @cache  # noqa: B019 - lives as long as the program
    def pool(self) -> Tensor:
        """Return the anchor images, without any that is evaluated on."""
        everyone = [*self.tasks.values(), *self.held.values()]
        evaluated = [split for task in everyone for split in (task.validation, task.test)]
        return drop_evaluation_images(anchors(self.base), *evaluated)

    def anchor(self, form: str) -> AnchorLoss:
        """Return the loss of a form."""
        if form == "feature":
            return FEATURE_ANCHOR
        names = [task.validation.classnames for task in self.held.values()]
        texts = torch.cat([build_head(self.base, classnames, prompts.STARTER) for classnames in names])
        return LogitAnchor(texts, self.base.logit_scale)

    def update(self, run: Run) -> TaskVector:
        """Return the update of a run, from the cache or trained now."""
        config = replace(
            self.base.finetune_defaults,
            precision=self.precision,
            iterations=self.iterations,
            warmup_steps=self.iterations // 10,
            seed=run.seed,
            anchor_weight=run.weight,
        )
        pool, loss = self.pool() if run.weight else None, self.anchor(run.form)
        return trained(self.name(run), self.base, self.tasks[run.task], config, pool=pool, anchor_loss=loss)

    def choose(self, run: Run, options: AlphaOptions) -> Outcome:
        """Return what the rule chooses on validation splits."""
        return choose(self.base, self.update(run), self.tasks[run.task], self.held, options)

    def tested(self, run: Run, options: AlphaOptions) -> Outcome:
        """Return what the rule's choice on the validation curve gives on test splits; alpha 0 if none is accepted."""
        curves = {split: self.curve(run, options, split) for split in ("validation", "test")}
        goal = Goal.of(options, [run.task], [*self.held])
        try:
            alpha = goal.choose(curves["validation"]).alpha
        except NoAcceptableAlphaError:
            alpha = 0.0
        points = {point.alpha: point for point in curves["test"]}
        return outcome(self.tasks[run.task], self.held, points[0.0], points[alpha])

    def curve(self, run: Run, options: AlphaOptions, split: str) -> list[CurvePoint]:
        """Return the curve along a path on `validation` or `test` splits, from the cache or evaluated now."""
        (profile,) = options.profiles
        size = sum(len(getattr(task, split)) for task in self.held.values())
        path = CACHE / f"{self.name(run)}-{profile}-{options.spacing:g}-{self.splits}-{split}-{size}.json"
        if not path.exists():
            splits = {name: (each.head, getattr(each, split)) for name, each in self._everyone(run).items()}
            direction = Path((Term(self.update(run), 1.0, profile),))
            points = evaluate_curve(self.base, direction, splits, options.alphas(profile), paired=True)
            write_whole(path, json.dumps([asdict(point) for point in points]).encode())
        return [_point(each) for each in json.loads(path.read_bytes())]

    def _everyone(self, run: Run) -> dict[str, Task]:
        return {run.task: self.tasks[run.task], **self.held}

    def name(self, run: Run) -> str:
        """Return what the files of a run are called in the cache."""
        form = f"{run.form}-{run.weight:g}-{run.task}-{run.seed}"
        return f"anchoring/{form}-{self.iterations}-{self.precision}-{identity('starter')}"


def _point(stored: dict[str, Any]) -> CurvePoint:
    return CurvePoint(**stored | {"scores": {name: Score(**score) for name, score in stored["scores"].items()}})


SEARCH = AlphaOptions(rule="combined", strategy="interpolated")
RULES = {
    "combined": AlphaOptions(rule="combined", strategy="grid", step=0.05),
    "floor": AlphaOptions(rule="floor", max_supported_drop=MAX_DROP_POINTS, strategy="grid", step=0.05),
    "certified": AlphaOptions(rule="certified", strategy="grid", step=0.05),  # 1 point in the mean, 3 each, 95 %
}
ROWS = {
    "flat": ("plain", "flat"),
    "lines": ("plain", "lines"),
    "anchored": ("feature", "flat"),
    "anchored_lines": ("feature", "lines"),
}


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--only", type=_names, default=["forms", *RULES], help="forms, combined, floor, certified")
    arguments.add_argument("--rows", type=_names, default=[*ROWS], help=", ".join(ROWS))
    arguments.add_argument("--tasks", type=_names, default=["digits", "fashion"], help="digits, fashion")
    arguments.add_argument("--seeds", type=int, default=3, help="how many")
    arguments.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of fine-tuning")
    arguments.add_argument("--splits", choices=("vendors", "mixed"), default="vendors", help="of supported tasks")
    options = arguments.parse_args()
    base, seeds = load_base("starter"), (0,) if options.quick else tuple(range(options.seeds))
    tasks = patching(base, ("digits",) if options.quick else tuple(options.tasks))
    held = supported(base, 60 if options.quick else None, mixed=options.splits == "mixed")
    bench = Bench(base, tasks, held, 40 if options.quick else 200, options.precision, options.splits)
    figures: list[Figure] = []
    if "forms" in options.only:
        best = compare_forms(bench, seeds)
        figures += [Figure(f"anchor_{form}_combined_percent", value, "%") for form, value in best.items()]
    rules = [rule for rule in RULES if rule in options.only]
    for seed in seeds if rules else ():
        evaluate_paths(bench, options.rows, seed)
    figures += compare_paths(bench, rules, options.rows, seeds)
    report(figures, options.json)


def _names(text: str) -> list[str]:
    return text.split(",")


def compare_forms(bench: Bench, seeds: Sequence[int]) -> dict[str, float]:
    """Return the mean combined accuracy of each form over all seeds, at the weight that is best on the first."""
    print("validation, combined rule: form, weight, seed: task alpha patching % / supported change")
    best = {}
    for form, weights in WEIGHTS.items():
        first = {weight: combined_of(bench, form, weight, seeds[0]) for weight in weights}
        weight = max(first, key=lambda each: first[each])
        others = [combined_of(bench, form, weight, seed) for seed in seeds[1:]]
        best[form] = statistics.mean([first[weight], *others])
    return best


def combined_of(bench: Bench, form: str, weight: float, seed: int) -> float:
    """Return the mean over tasks of (patching % + supported change) / 2 at the chosen alpha."""
    found = {task: bench.choose(Run(form, weight, task, seed), SEARCH) for task in bench.tasks}
    row = ", ".join(f"{t} {o.alpha:g} {o.patching:.1f} / {o.supported_change:+.1f}" for t, o in found.items())
    value = statistics.mean(outcome.worth for outcome in found.values())
    print(f"{form} {weight:g} {seed}: {row}: {value:.2f}", flush=True)
    return value


def run_of(row: str, task: str, seed: int) -> tuple[Run, str]:
    """Return the fine-tuning of a row, and the path along its update."""
    form, path = ROWS[row]
    return Run(form, RECOMMENDED_WEIGHT if form == "feature" else 0.0, task, seed), path


def evaluate_paths(bench: Bench, rows: Sequence[str], seed: int) -> None:
    """Train and evaluate all rows of a seed; what is kept already takes no time."""
    for task in bench.tasks:
        for row in rows:
            run, path = run_of(row, task, seed)
            for split in ("validation", "test"):
                bench.curve(run, replace(RULES["combined"], path=path), split)


def compare_paths(bench: Bench, rules: Sequence[str], rows: Sequence[str], seeds: Sequence[int]) -> list[Figure]:
    """Return the means over seeds on test splits of every task, rule, path, without and with anchors."""
    if rules:
        print("\ntest: task, rule, row: patching % / supported change (alpha of each seed)")
    figures = []
    for task in bench.tasks:
        for rule in rules:
            for row in rows:
                runs = [run_of(row, task, seed) for seed in seeds]
                found = [bench.tested(run, replace(RULES[rule], path=path)) for run, path in runs]
                patched = statistics.mean(each.patching for each in found)
                change = statistics.mean(each.supported_change for each in found)
                alphas = ", ".join(f"{each.alpha:g}" for each in found)
                print(f"{task} {rule} {row}: {patched:.1f} / {change:+.1f} ({alphas})", flush=True)
                figures += figures_of(f"{task}_{rule}_{row}", patched, -change)
    return figures


def figures_of(name: str, patched: float, drop: float) -> list[Figure]:
    """Return a row's two figures; that of the acceptance has targets."""
    promised = name == "digits_combined_anchored"
    return [
        Figure(f"{name}_percent", patched, "%", 95.0 if promised else None),
        Figure(f"{name}_supported_drop_points", drop, "points", MAX_DROP_POINTS if promised else None, at_most=True),
    ]


if __name__ == "__main__":
    main()
