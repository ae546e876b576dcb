"""What task vectors in 16, 8 and 4 bits cost: bytes, and accuracy on test splits.

The starter fine-tuned with anchors (weight 20) on digits and Fashion-MNIST. Alpha is chosen by the combined rule on
validation splits, along the vector as it is stored, for each number of bits anew; or it is given. Points are of half
the sum of the patching accuracy and the supported mean on test splits, against 32 bits; means over seeds, and the worst
seed.

    python benchmarks/small_vectors.py [--quick] [--seeds N] [--tasks digits fashion] [--alpha A] [--json FILE]
"""

from __future__ import annotations

import statistics

from _patch import choose, judge
from _report import Figure, parser, report
from _tasks import PATCHING, patching, supported
from _towers import load
from anchoring import SEARCH, Bench, Run

from paint_core.weights import Bits, TaskVector, rounded, save_task_vector

BITS: tuple[Bits, ...] = (16, 8, 4)


def worth(bench: Bench, run: Run, tau: TaskVector, alpha: float | None) -> float:
    """Return what the combined rule's choice gives on test splits, in points above a base that knows nothing."""
    task = bench.tasks[run.task]
    if alpha is None:
        alpha = choose(bench.base, tau, task, bench.held, SEARCH).alpha
    (outcome,) = judge(bench.base, tau, task, bench.held, [alpha])
    print(f"{run.task} seed {run.seed}: alpha {alpha:.2f}, patching {outcome.patching:.2f} %, "
          f"supported {outcome.supported_change:+.2f}", flush=True)  # fmt: skip
    return outcome.worth


def main() -> None:
    """Measure each task and number of bits."""
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--tasks", nargs="+", default=("digits", "fashion"), choices=PATCHING)
    arguments.add_argument("--alpha", type=float, help="in place of the one that the rule chooses")
    options = arguments.parse_args()
    base = load("starter")
    tasks = patching(base, names=options.tasks)
    bench = Bench(base, tasks, supported(base, 60 if options.quick else None), 200)
    figures: list[Figure] = []
    sizes: dict[int, list[float]] = {bits: [] for bits in BITS}
    for name in tasks:
        losses: dict[int, list[float]] = {bits: [] for bits in BITS}
        for seed in range(1 if options.quick else options.seeds):
            run = Run("feature", 20.0, name, seed)
            tau = bench.update(run)
            whole, num_bytes = worth(bench, run, tau, options.alpha), len(save_task_vector(tau, {}))
            for bits in BITS:
                sizes[bits].append(len(save_task_vector(tau, {}, bits)) / num_bytes)
                losses[bits].append(whole - worth(bench, run, rounded(tau, bits), options.alpha))
        for bits in BITS:
            figures.append(
                Figure(f"{name}_{bits}_bits_points_lost", statistics.mean(losses[bits]), "points", 0.1, True)
            )
            figures.append(Figure(f"{name}_{bits}_bits_worst_seed", max(losses[bits]), "points"))
    targets = {16: None, 8: None, 4: 0.15}
    figures += [Figure(f"bytes_of_{bits}_bits", max(sizes[bits]), "x", targets[bits], True) for bits in BITS]
    report(figures, options.json)


if __name__ == "__main__":
    main()
