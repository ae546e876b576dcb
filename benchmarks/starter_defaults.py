"""How the starter is best fine-tuned: rate, steps, batch and anchor weight, chosen on validation splits only.

Each setting patches digits and Fashion-MNIST with the bundled anchors and searches alpha by the combined rule. It is
worth the mean over both of (patching accuracy + supported change) / 2. One field is varied after the other, from the
best so far.

    python benchmarks/starter_defaults.py [--quick] [--json FILE]

Trained updates are kept in `.benchmarks/defaults/`; the first run takes half an hour on two cores.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from _patch import choose, trained
from _report import Figure, parser, report
from _tasks import anchors, patching, supported
from _towers import identity
from torch import Tensor

from paint_core.alpha import AlphaOptions
from paint_core.data import Task
from paint_core.models import BaseModel, load_base
from paint_core.training.anchoring import drop_evaluation_images
from paint_core.weights import TaskVector


@dataclass(frozen=True)
class Setting:
    """What is varied; the fields are those of `FinetuneConfig`."""

    learning_rate: float = 8e-4
    iterations: int = 200
    batch_size: int = 64
    anchor_weight: float = 20.0


FIELDS: Mapping[str, Sequence[float]] = {
    "learning_rate": (2e-4, 4e-4, 8e-4),
    "iterations": (100, 200, 400),
    "batch_size": (32, 64),
    "anchor_weight": (7.0, 20.0, 60.0),
}


@dataclass(frozen=True, eq=False)
class Bench:
    """What every setting is tried on."""

    base: BaseModel
    tasks: Mapping[str, Task]
    held: Mapping[str, Task]
    pool: Tensor

    def worth(self, setting: Setting) -> float:
        """Return what a setting is worth, in percentage points, and print how it comes about."""
        started, found = time.monotonic(), {}
        for name, task in self.tasks.items():
            options = AlphaOptions(rule="combined", strategy="interpolated")
            found[name] = choose(self.base, self._update(setting, task), task, self.held, options)
        value = statistics.mean(outcome.worth for outcome in found.values())
        row = ", ".join(f"{n} {o.patching:.1f} / {o.supported_change:+.1f} at {o.alpha:g}" for n, o in found.items())
        print(f"{setting}: {row}: {value:.2f} ({time.monotonic() - started:.0f} s)", flush=True)
        return value

    def _update(self, setting: Setting, task: Task) -> TaskVector:
        name = "-".join(f"{value:g}" for value in asdict(setting).values())
        warmup = setting.iterations // 10
        config = replace(self.base.finetune_defaults, **asdict(setting), warmup_steps=warmup, precision="auto")
        key = f"defaults/{task.name}-{name}-{identity('starter')}"
        return trained(key, self.base, task, config, pool=self.pool)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    base = load_base("starter")
    tasks = patching(base, ("digits",) if options.quick else ("digits", "fashion"))
    held = supported(base, 60 if options.quick else None)
    evaluated = [split for task in (*tasks.values(), *held.values()) for split in (task.validation, task.test)]
    bench = Bench(base, tasks, held, drop_evaluation_images(anchors(base), *evaluated))
    best = replace(Setting(), iterations=20) if options.quick else Setting()
    worths = {best: bench.worth(best)}
    for field, values in {"learning_rate": (4e-4, 8e-4)}.items() if options.quick else FIELDS.items():
        for value in values:
            setting = replace(best, **{field: value})
            if setting not in worths:
                worths[setting] = bench.worth(setting)
        best = max(worths, key=lambda setting: worths[setting])
    print(f"best: {json.dumps(asdict(best))}")
    report([Figure("starter_defaults_worth_points", worths[best], "points")], options.json)


if __name__ == "__main__":
    main()
