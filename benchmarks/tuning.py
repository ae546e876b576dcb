"""What a search over learning rate and iterations gains: the preset's patch against the best of several trials.

Digits is patched with the bundled anchors, and alpha is searched by the combined rule. The trials are chosen on
validation splits; the figures are those of the test splits, and of the time.

    python benchmarks/tuning.py [--trials N] [--on fashion] [--quick] [--json FILE]
"""

from __future__ import annotations

import time
from dataclasses import replace

from _report import Figure, parser, report
from _tasks import anchors, patching, supported

from paint_core.alpha import AlphaOptions
from paint_core.models import load_base
from paint_core.patching import Event, PatchPlan, PatchResult, run_patch
from paint_core.patching.trials import Trial

ANCHOR_WEIGHT = 60.0


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--trials", type=int, default=5)
    arguments.add_argument("--on", choices=("digits", "fashion"), default="digits")
    options = arguments.parse_args()
    base = load_base("starter")
    (task,) = patching(base, [options.on]).values()
    held, pool = supported(base), anchors(base)
    iterations = 10 if options.quick else base.finetune_defaults.iterations
    config = replace(
        base.finetune_defaults, iterations=iterations, warmup_steps=iterations // 10, anchor_weight=ANCHOR_WEIGHT
    )
    plan = PatchPlan(
        "single", config, AlphaOptions(strategy="interpolated"), bits=16, tune=2 if options.quick else options.trials
    )
    started = time.perf_counter()
    took: list[float] = []

    def tell(event: Event) -> None:
        if isinstance(event, Trial):
            took.append(time.perf_counter() - started - sum(took))
            print(
                f"trial {event.number}: {event.config.learning_rate:g} x {event.config.iterations}, "
                f"alpha {event.alpha}, validation {event.patching} and {event.supported}, {took[-1]:.0f} s",
                flush=True,
            )

    tuned = run_patch(base, [task], list(held.values()), plan, anchors=pool, on_event=tell)
    plain = run_patch(base, [task], list(held.values()), replace(plan, tune=None), anchors=pool)
    report([*_figures("preset", plain, task.name), *_figures("tuned", tuned, task.name)], options.json)


def _figures(name: str, patch: PatchResult, task: str) -> list[Figure]:
    held = [each for each in patch.patched if each != task]
    change = sum(patch.patched[each].accuracy - patch.zero_shot[each].accuracy for each in held) / len(held)
    return [
        Figure(f"{name}_test", 100 * patch.patched[task].accuracy, "%"),
        Figure(f"{name}_supported_change", 100 * change, "points"),
    ]


if __name__ == "__main__":
    main()
