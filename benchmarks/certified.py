"""What rule `certified` gives on digits with anchors, over trained seeds and random divisions of the supported images.

For each seed, a patch is trained with anchors, and the answers along alpha are interpolated for all images of the
supported tasks. These are then divided by chance into validation and test halves, many times; on each division every
rule chooses alpha on the validation half, and its choice is judged on the test half and on the digits' own test split.
Updates and interpolants are kept in `.benchmarks/`.

    python benchmarks/certified.py [--quick] [--seeds N] [--divisions N] [--weight W] [--json FILE]
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from _cache import CACHE, write_whole
from _report import Figure, parser, report
from _tasks import patching, supported
from anchoring import Bench, Run
from torch import Tensor

from contract.finetune_options import AnchorOptions
from paint_core.alpha import AlphaOptions, CurvePoint, FeatureCurve, Goal, Path, PathEvaluator, grid
from paint_core.alpha.strategies import measure_nodes
from paint_core.errors import NoAcceptableAlphaError
from paint_core.evaluation import Score
from paint_core.models import load_base
from paint_core.weights import Term

TASK = "digits"
NODES = (0.0, 0.15, 0.35, 0.55, 0.75, 0.9, 1.0)
WEIGHT = AnchorOptions.model_fields["weight"].default
LIMIT_POINTS = 1.0
RULES = {
    "combined": AlphaOptions(),
    "floor": AlphaOptions(rule="floor", max_supported_drop=2.0),
    "certified": AlphaOptions(rule="certified"),  # 1 point on the mean, 3 each, 95 %
}

Answers = Mapping[float, Mapping[str, Tensor]]
"""By alpha and split: bool [N], whether each image is classified correctly."""


@dataclass(frozen=True)
class Choice:
    """What a rule chose on one division.

    Attributes:
        patching: Accuracy on the test images of the patching task, in percent.
        drop: Mean drop of the supported tasks on the test halves, in points.
    """

    patching: float
    drop: float


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, default=5, help="how many patches are trained")
    arguments.add_argument("--divisions", type=int, default=20, help="of the supported images, for each seed")
    arguments.add_argument("--weight", type=float, default=WEIGHT, help="of the anchor loss")
    options = arguments.parse_args()
    base = load_base("starter")
    bench = Bench(base, patching(base, [TASK]), supported(base), 20 if options.quick else 200)
    found: dict[str, list[list[Choice]]] = {rule: [] for rule in RULES}
    for seed in range(1 if options.quick else options.seeds):
        curve = interpolant(bench, Run("feature", options.weight, TASK, seed))
        answers = {alpha: curve.correct_answers(alpha) for alpha in grid(0.01)}
        for rule, chosen in found.items():
            chosen.append([choose(answers, RULES[rule], list(bench.held), each) for each in range(options.divisions)])
            print(f"seed {seed} {rule}: {_tell(chosen[-1])}", flush=True)
    before = 100 * answers[0.0][f"{TASK}/test"].float().mean().item()
    report(list(figures(found, before)), options.json)


def interpolant(bench: Bench, run: Run) -> FeatureCurve:
    """Return the features along alpha of every split, from the cache or encoded now."""
    path = CACHE / f"{bench.name(run)}-{len(NODES)}.curve"
    if not path.exists():
        everyone = {TASK: bench.tasks[TASK], **bench.held}
        splits = {name: (task.head, task.validation) for name, task in everyone.items()}
        splits |= {f"{name}/test": (task.head, task.test) for name, task in everyone.items()}
        direction = Path((Term(bench.update(run), 1.0),))
        write_whole(path, measure_nodes(PathEvaluator(bench.base, direction, splits), NODES).to_bytes())
    return FeatureCurve.from_bytes(path.read_bytes())


def choose(answers: Answers, options: AlphaOptions, held: list[str], division: int) -> Choice:
    """Return what a rule chooses on a random half of the supported images, judged on the other half."""
    generator = torch.Generator().manual_seed(division)
    sizes = {name: sum(len(answers[0.0][split]) for split in (name, f"{name}/test")) for name in held}
    orders = {name: torch.randperm(size, generator=generator) for name, size in sizes.items()}
    points, drops = [], {}
    for alpha, right in answers.items():
        scores = {TASK: _score(right[TASK], answers[0.0][TASK])}
        lost = 0.0
        for name, order in orders.items():
            now, then = (torch.cat([each[name], each[f"{name}/test"]])[order] for each in (right, answers[0.0]))
            half = len(order) // 2
            scores[name] = _score(now[:half], then[:half])
            lost += (then[half:].float().mean() - now[half:].float().mean()).item()
        points.append(CurvePoint(alpha, scores))
        drops[alpha] = 100 * lost / len(held)
    try:
        alpha = Goal.of(options, [TASK], held).choose(points).alpha
    except NoAcceptableAlphaError:
        alpha = 0.0
    return Choice(100 * answers[alpha][f"{TASK}/test"].float().mean().item(), drops[alpha])


def _score(right: Tensor, reference: Tensor) -> Score:
    lost, gained = int((reference & ~right).sum()), int((right & ~reference).sum())
    return Score(int(right.sum()), len(right), 0.0, 0.0, len(right), lost, gained)


def figures(found: Mapping[str, list[list[Choice]]], before: float) -> list[Figure]:
    """Return the figures of every rule, over all seeds and divisions."""
    patching = {
        rule: statistics.mean(each.patching for seed in chosen for each in seed) for rule, chosen in found.items()
    }
    made = []
    for rule, chosen in found.items():
        drops = [each.drop for seed in chosen for each in seed]
        promised = rule == "certified"
        made += [
            Figure(f"{rule}_patching_percent", patching[rule], "%"),
            Figure(
                f"{rule}_share_of_combined_gain",
                (patching[rule] - before) / (patching["combined"] - before),
                "",
                0.9 if promised else None,
            ),
            Figure(
                f"{rule}_mean_drop_points",
                statistics.mean(drops),
                "points",
                LIMIT_POINTS if promised else None,
                at_most=True,
            ),
            Figure(f"{rule}_share_above_limit", sum(drop > LIMIT_POINTS for drop in drops) / len(drops), ""),
        ]
    return made


def _tell(chosen: list[Choice]) -> str:
    patching, drops = [each.patching for each in chosen], [each.drop for each in chosen]
    mean_drop = f"{statistics.mean(drops):+.2f} points (most {max(drops):+.2f})"
    return f"digits {statistics.mean(patching):.1f} % (least {min(patching):.1f}), drop {mean_drop}"


if __name__ == "__main__":
    main()
