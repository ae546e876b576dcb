"""What anchors are worth to a fine-tuning of the starter, and which form of anchor holds it best.

1. Forms, at the same steps and images: the feature anchor of `paint_core` (1 - cosine) against the logit distillation
   of ZSCL (Zheng et al., ICCV 2023: KL divergence of theta_0's softmax over a list of texts, temperature 2), each at a
   few weights, judged on validation splits. The texts are the classnames of the supported tasks, which favours ZSCL.
2. The kept form at the recommended weight: patching and supported accuracy on test splits, alpha chosen on validation
   splits, along both paths and by both rules, with and without anchors.

    python benchmarks/anchoring.py [--quick] [--json FILE] [--only forms|paths]

Trained updates are kept in `.benchmarks/anchoring/`; the first run takes an hour on two cores.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
import torch.nn.functional as F
from _patch import Outcome, choose, judge, trained
from _report import Figure, parser, report
from _tasks import anchors, patching, supported
from _towers import identity
from torch import Tensor

from paint_core.alpha import AlphaOptions
from paint_core.data import Task
from paint_core.models import BaseModel, build_head, load_base, prompts
from paint_core.training.anchoring import FEATURE_ANCHOR, AnchorLoss, drop_evaluation_images
from paint_core.weights import TaskVector

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
        name = f"{run.form}-{run.weight:g}-{run.task}-{run.seed}-{self.iterations}-{identity('starter')}"
        config = replace(
            self.base.finetune_defaults,
            precision="bf16",
            iterations=self.iterations,
            warmup_steps=self.iterations // 10,
            seed=run.seed,
            anchor_weight=run.weight,
        )
        pool, loss = self.pool() if run.weight else None, self.anchor(run.form)
        return trained(f"anchoring/{name}", self.base, self.tasks[run.task], config, pool=pool, anchor_loss=loss)

    def choose(self, run: Run, options: AlphaOptions) -> Outcome:
        """Return what the rule chooses on validation splits."""
        return choose(self.base, self.update(run), self.tasks[run.task], self.held, options)

    def tested(self, run: Run, options: AlphaOptions) -> Outcome:
        """Return what the choice gives on test splits."""
        chosen, task = self.choose(run, options), self.tasks[run.task]
        return judge(self.base, self.update(run), task, self.held, [chosen.alpha], chosen.profile)[0]


COMBINED = AlphaOptions(strategy="interpolated")
FLOOR = AlphaOptions(rule="floor", max_supported_drop=MAX_DROP_POINTS, strategy="interpolated")
CERTIFIED = AlphaOptions(rule="certified", strategy="interpolated")  # at most 1 point in the mean, 3 each, 95 %


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--only", choices=("forms", "paths"), help="one of the two parts")
    options = arguments.parse_args()
    base = load_base("starter")
    tasks = patching(base, ("digits",) if options.quick else ("digits", "fashion"))
    bench = Bench(base, tasks, supported(base, 60 if options.quick else None), 40 if options.quick else 200)
    seeds = (0,) if options.quick else (0, 1, 2)
    figures: list[Figure] = []
    if options.only != "paths":
        best = compare_forms(bench, seeds)
        figures += [Figure(f"anchor_{form}_combined_percent", value, "%") for form, value in best.items()]
    if options.only != "forms":
        figures += compare_paths(bench, RECOMMENDED_WEIGHT, seeds)
    report(figures, options.json)


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
    found = {task: bench.choose(Run(form, weight, task, seed), COMBINED) for task in bench.tasks}
    row = ", ".join(f"{t} {o.alpha:g} {o.patching:.1f} / {o.supported_change:+.1f}" for t, o in found.items())
    value = statistics.mean(outcome.worth for outcome in found.values())
    print(f"{form} {weight:g} {seed}: {row}: {value:.2f}", flush=True)
    return value


def compare_paths(bench: Bench, weight: float, seeds: Sequence[int]) -> list[Figure]:
    """Return the means over seeds on test splits of every task, rule, path, without and with anchors."""
    print("\ntest: task, rule, row: patching % / supported change (alpha of each seed)")
    figures = []
    for task in bench.tasks:
        for rule, options in (("combined", COMBINED), ("floor", FLOOR), ("certified", CERTIFIED)):
            for name, form, path in (
                ("flat", "plain", "flat"),
                ("lines", "plain", "lines"),
                ("anchored", "feature", "flat"),
                ("anchored_lines", "feature", "lines"),
            ):
                runs = [Run(form, weight if form == "feature" else 0.0, task, seed) for seed in seeds]
                found = [bench.tested(run, replace(options, path=path)) for run in runs]
                patched = statistics.mean(outcome.patching for outcome in found)
                change = statistics.mean(outcome.supported_change for outcome in found)
                alphas = ", ".join(f"{outcome.alpha:g}" for outcome in found)
                print(f"{task} {rule} {name}: {patched:.1f} / {change:+.1f} ({alphas})", flush=True)
                figures += figures_of(f"{task}_{rule}_{name}", patched, -change)
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
