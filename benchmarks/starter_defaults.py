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

from _cache import CACHE, write_whole
from _report import Figure, parser, report
from _tasks import anchors, patching, supported
from _towers import identity
from safetensors.torch import load_file, save
from torch import Tensor

from paint_core.alpha import AlphaOptions, Path, search_alpha
from paint_core.anchoring import drop_evaluation_images
from paint_core.datasets import Task
from paint_core.finetune import finetune
from paint_core.models import BaseModel, load_base
from paint_core.weights import TaskVector, task_vector


@dataclass(frozen=True)
class Setting:
    """What is varied; the fields are those of `FinetuneConfig`."""

    learning_rate: float = 4e-4
    iterations: int = 200
    batch_size: int = 64
    anchor_weight: float = 20.0


FIELDS: Mapping[str, Sequence[float]] = {
    "learning_rate": (2e-4, 4e-4, 8e-4),
    "iterations": (100, 200, 400),
    "anchor_weight": (7.0, 20.0, 60.0),
    "batch_size": (32, 64),
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
        started, values, parts = time.monotonic(), [], []
        for name, task in self.tasks.items():
            everyone = {name: task, **self.held}
            splits = {each: (one.head, one.validation) for each, one in everyone.items()}
            options = AlphaOptions(strategy="interpolated")
            found = search_alpha(self.base, Path.of(self._update(setting, task)), splits, [name], [*self.held], options)
            points = {point.alpha: point for point in found.curve}
            chosen = points[found.choice.alpha]
            before, after = (
                100 * statistics.mean(point.scores[each].accuracy for each in self.held)
                for point in (points[0.0], chosen)
            )
            patched = 100 * chosen.scores[name].accuracy
            values.append((patched + after - before) / 2)
            parts.append(f"{name} {patched:.1f} / {after - before:+.1f} at {chosen.alpha:g}")
        value = statistics.mean(values)
        print(f"{setting}: {', '.join(parts)}: {value:.2f} ({time.monotonic() - started:.0f} s)", flush=True)
        return value

    def _update(self, setting: Setting, task: Task) -> TaskVector:
        name = "-".join(f"{value:g}" for value in asdict(setting).values())
        path = CACHE / "defaults" / f"{task.name}-{name}-{identity('starter')}.safetensors"
        if not path.exists():
            assert task.train is not None
            config = replace(
                self.base.finetune_defaults, **asdict(setting), warmup_steps=setting.iterations // 10, precision="auto"
            )
            theta_1 = finetune(self.base, task.head, task.train, config, anchors=self.pool)
            write_whole(path, save(task_vector(self.base.visual.state_dict(), theta_1)))
        return load_file(path)


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
