"""What the starter can do: the figures of its model card.

1. Zero-shot, with 95 % intervals: its supported tasks on both splits, digits and Fashion-MNIST.
2. Patched with digits and with Fashion-MNIST by its own defaults: with the bundled anchors, with as many crops of
   photographs in their place, and with none. Alpha by the combined rule on validation splits, figures on test splits.

    python benchmarks/starter.py [--quick] [--json FILE]

Trained updates are kept in `.benchmarks/starter/`; the first run takes a quarter of an hour on two cores. How well it
names the pictograms of an unseen vendor is what its recipe prints (`recipes/starter`).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from _patch import Outcome, choose, judge, trained
from _report import Figure, parser, report
from _tasks import anchors, patching, supported
from _towers import identity
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from paint_core.alpha import AlphaOptions
from paint_core.data import LabelledImages, Task
from paint_core.evaluation import Score, evaluate
from paint_core.models import BaseModel, load_base
from paint_core.training.anchoring import drop_evaluation_images

ANCHOR_WEIGHT = 60.0  # what a patch request has if it names none
LEAST = {"digits": 97.0, "fashion": 80.0}
MOST_ZERO_SHOT = {"digits": 40.0, "fashion": 50.0}
LEAST_SUPPORTED = 65.0


@dataclass(frozen=True, eq=False)
class Bench:
    """What every run shares: the base, the tasks, and the pools of anchors by name."""

    base: BaseModel
    tasks: Mapping[str, Task]
    held: Mapping[str, Task]
    pools: Mapping[str, Tensor | None]

    def patched(self, name: str, pool: str, seed: int) -> tuple[Outcome, Outcome]:
        """Return a task's patch with a pool on test splits, at the chosen alpha and at 1."""
        weight = 0.0 if self.pools[pool] is None else ANCHOR_WEIGHT
        config = replace(self.base.finetune_defaults, anchor_weight=weight, seed=seed)
        key = f"starter/{name}-{pool}-{weight:g}-{seed}-{identity('starter')}"
        tau = trained(key, self.base, self.tasks[name], config, pool=self.pools[pool])
        chosen = choose(
            self.base, tau, self.tasks[name], self.held, AlphaOptions(rule="combined", strategy="interpolated")
        )
        at_chosen, at_1 = judge(self.base, tau, self.tasks[name], self.held, [chosen.alpha, 1.0])
        return at_chosen, at_1


def crops(side: int, count: int) -> Tensor:
    """Return crops of scikit-learn's two sample photographs, uint8 [count, side, side, 3]."""
    source, photographs = np.random.default_rng(0), load_sample_images().images
    found = []
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        size = int(source.integers(side, 4 * side))
        top, left = (int(source.integers(0, limit - size)) for limit in photograph.shape[:2])
        crop = Image.fromarray(photograph[top : top + size, left : left + size])
        found.append(np.asarray(crop.resize((side, side), Image.Resampling.BICUBIC)))
    return torch.from_numpy(np.stack(found))


def zero_shot(base: BaseModel, tasks: Mapping[str, Task]) -> list[Figure]:
    """Print and return the accuracies of the unpatched starter on validation and test splits."""
    figures = []
    for name, task in tasks.items():
        scores = {"validation": _score(base, task, task.validation), "test": _score(base, task, task.test)}
        for split, score in scores.items():
            low, high = (100 * bound for bound in score.interval())
            print(f"{name} {split}: {100 * score.accuracy:.1f} % [{low:.1f}, {high:.1f}] of {score.total}", flush=True)
        at_most = name in MOST_ZERO_SHOT
        target = MOST_ZERO_SHOT.get(name, LEAST_SUPPORTED)
        figures.append(Figure(f"zero_shot_{name}", 100 * scores["test"].accuracy, "%", target, at_most=at_most))
    return figures


def _score(base: BaseModel, task: Task, images: LabelledImages) -> Score:
    return evaluate(base.visual, base, task.head, images)


def patches(bench: Bench, seeds: tuple[int, ...]) -> list[Figure]:
    """Print and return what patches do, means over the seeds."""
    figures = []
    for name in bench.tasks:
        drops = {}
        for pool in bench.pools:
            found = [bench.patched(name, pool, seed) for seed in seeds]
            (patched, change), (patched_at_1, change_at_1) = (
                (statistics.mean(one.patching for one in each), statistics.mean(one.supported_change for one in each))
                for each in zip(*found, strict=True)
            )
            drops[pool] = -change_at_1
            alphas = ", ".join(f"{at_chosen.alpha:g}" for at_chosen, _ in found)
            print(
                f"{name}, anchors {pool}: {patched:.1f} % / {change:+.1f} (alpha {alphas}); "
                f"at alpha 1 {patched_at_1:.1f} % / {change_at_1:+.1f}",
                flush=True,
            )
            promised = pool == "bundled"
            figures += [
                Figure(f"{name}_{pool}", patched, "%", LEAST[name] if promised else None),
                Figure(f"{name}_{pool}_drop", -change, "points", 1.0 if promised else None, at_most=True),
            ]
        figures.append(Figure(f"{name}_plain_finetuning_drop", drops["none"], "points"))
    return figures


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    base = load_base("starter")
    tasks, held = patching(base, ("digits", "fashion")), supported(base)
    figures = zero_shot(base, {**held, **tasks})
    evaluated = [split for task in (*tasks.values(), *held.values()) for split in (task.validation, task.test)]
    bundled = drop_evaluation_images(anchors(base, training_only=False), *evaluated)
    pools = {"bundled": bundled, "photographs": crops(base.image_size, len(bundled)), "none": None}
    figures += patches(Bench(base, tasks, held, pools), (0,) if options.quick else (0, 1, 2))
    report(figures, options.json)


if __name__ == "__main__":
    main()
