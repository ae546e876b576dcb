"""What task vectors in 16, 8 and 4 bits cost: bytes, and accuracy on test splits.

The starter fine-tuned with anchors (the bundled pool, the weight of the service's default) on digits and Fashion-MNIST;
the runs are those of `anchor_sources.py`. Alpha is chosen by the combined rule on validation splits, along the vector
in 32 bits, or it is given; every number of bits is judged there. Points are of half the sum of the patching accuracy
and the supported mean on test splits, against 32 bits: means over seeds, and the worst seed. Beside them stands what
fewer bits cost on validation splits, by which `store.bits: auto` decides.

    python benchmarks/small_vectors.py [--quick] [--seeds N] [--tasks digits fashion] [--alpha A]
        [--precision fp32|bf16] [--json FILE]
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import partial

from _patch import choose
from _report import Figure, parser, report
from _tasks import PATCHING, patching, supported
from _towers import load
from anchor_sources import SEARCH, WEIGHT, Run, update

from paint_core.alpha import evaluate_curve
from paint_core.data import Task
from paint_core.models import BaseModel
from paint_core.weights import Bits, TaskVector, rounded, save_task_vector

BITS: tuple[Bits, ...] = (16, 8, 4)
SPLITS = ("test", "validation")
TOWER = "starter"


def losses(
    base: BaseModel, task: Task, held: Mapping[str, Task], tau: TaskVector, alpha: float | None
) -> dict[Bits, float]:
    """Return what each number of bits loses on test splits, in points; prints what it loses on validation splits."""
    alpha = choose(base, tau, task, held, SEARCH).alpha if alpha is None else alpha
    worth = partial(_worth, base, task, held, alpha)
    whole = {split: worth(tau, split) for split in SPLITS}
    found: dict[Bits, float] = {}
    for bits in BITS:
        points = {split: whole[split] - worth(rounded(tau, bits), split) for split in SPLITS}
        print(
            f"{bits} bits: {points['test']:+.3f} points lost on test splits, {points['validation']:+.3f} on validation"
        )
        found[bits] = points["test"]
    return found


def _worth(base: BaseModel, task: Task, held: Mapping[str, Task], alpha: float, tau: TaskVector, split: str) -> float:
    """Half the sum of the patching accuracy and the supported mean on a split, in %."""
    splits = {each.name: (each.head, getattr(each, split)) for each in (task, *held.values())}
    (point,) = evaluate_curve(base, tau, splits, [alpha])
    patching, kept = point.scores[task.name].accuracy, statistics.mean(point.scores[name].accuracy for name in held)
    print(f"{task.name} at {alpha:.2f}, {split}: {100 * patching:.2f} %, supported {100 * kept:.2f} %", flush=True)
    return 50 * (patching + kept)


def main() -> None:
    """Measure each task and number of bits."""
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--tasks", nargs="+", default=("digits", "fashion"), choices=PATCHING)
    arguments.add_argument("--alpha", type=float, help="in place of the one that the rule chooses")
    arguments.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of fine-tuning")
    options = arguments.parse_args()
    base = load(TOWER)
    held = supported(base, 60 if options.quick else None)
    figures: list[Figure] = []
    sizes: dict[int, list[float]] = {bits: [] for bits in BITS}
    for name, task in patching(base, names=options.tasks).items():
        lost: dict[int, list[float]] = {bits: [] for bits in BITS}
        for seed in range(1 if options.quick else options.seeds):
            tau = update(Run(TOWER, name, "bundled", WEIGHT, seed, options.precision), task, held)
            num_bytes = len(save_task_vector(tau, {}))
            for bits, points in losses(base, task, held, tau, options.alpha).items():
                sizes[bits].append(len(save_task_vector(tau, {}, bits)) / num_bytes)
                lost[bits].append(points)
        for bits in BITS:
            figures.append(Figure(f"{name}_{bits}_bits_points_lost", statistics.mean(lost[bits]), "points", 0.1, True))
            figures.append(Figure(f"{name}_{bits}_bits_worst_seed", max(lost[bits]), "points"))
    targets = {16: None, 8: None, 4: 0.15}
    figures += [Figure(f"bytes_of_{bits}_bits", max(sizes[bits]), "x", targets[bits], True) for bits in BITS]
    report(figures, options.json)


if __name__ == "__main__":
    main()
