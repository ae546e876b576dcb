"""The search for alpha: every strategy, rule and path of `AlphaOptions`, on validation splits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from paint_core.alpha.curve import CurvePoint, EvaluationTask, PathEvaluator
from paint_core.alpha.interpolation import FeatureCurve
from paint_core.alpha.options import AlphaOptions
from paint_core.alpha.paths import Path
from paint_core.alpha.rules import AlphaChoice, Goal
from paint_core.alpha.strategies import interpolate, measure_grid, measure_nodes
from paint_core.errors import ConfigError, NoAcceptableAlphaError
from paint_core.evaluation import Score
from paint_core.models import BaseModel
from paint_core.runtime.arguments import require_names, require_type


@dataclass(frozen=True, eq=False, repr=False)
class AlphaSearch:
    """The chosen alpha and everything that was evaluated.

    Attributes:
        choice: alpha and why; the rule's choice among the measured points of `curve`.
        profile: of the moving terms at the choice.
        curve: the points along this profile, rising in alpha.
        curves: the same for every profile that was tried, those without an acceptable alpha included.
        num_forwards: number of evaluations of all tasks, except at alpha 0, over all profiles.
        interpolants: per profile, the features along the path, rows in the order of the splits' images; empty with
            folds.
    """

    choice: AlphaChoice
    profile: str
    curve: Sequence[CurvePoint]
    curves: Mapping[str, Sequence[CurvePoint]]
    num_forwards: int
    interpolants: Mapping[str, FeatureCurve] = field(default_factory=dict)

    def __repr__(self) -> str:
        sizes = {profile: len(curve) for profile, curve in self.curves.items()}
        return f"AlphaSearch(alpha={self.choice.alpha:g}, profile={self.profile!r}, points={sizes})"


def search_alpha(
    base: BaseModel,
    path: Path | Mapping[str, Tensor],
    tasks: Mapping[str, EvaluationTask],
    patching: Collection[str],
    supported: Collection[str],
    options: AlphaOptions,
    *,
    device: torch.device | str = "cpu",
    on_point: Callable[[CurvePoint], None] | None = None,
    known: Sequence[CurvePoint] = (),
    reference: Mapping[str, Score] | None = None,
    reference_correct: Mapping[str, Tensor] | None = None,
    baseline: Mapping[str, Tensor] | None = None,
) -> AlphaSearch:
    """The best alpha of a path by the options' rule (PAINT, arXiv 2208.05592, section 2).

    The strategy `interpolated` evaluates few alphas and predicts the others. The returned choice has been evaluated; it
    was repeated as long as measurement and prediction disagreed.

    Args:
        path: which terms alpha scales; their profile is replaced by the options'. A bare task vector means the path
            along it.
        tasks: name to (head [C, D], validation split), for every patching and supported task.
        patching: names of the tasks to improve.
        supported: names of the tasks that must not get worse.
        on_point: called after each evaluated point; may raise to stop.
        known: measured points of an interrupted search; encoded again only at the interpolant's nodes, whose features
            are needed.
        reference: for the rule `floor`, the scores to measure drops from; None means those at alpha 0.
        reference_correct: task name to bool [N], the images that the model to measure drops from classifies correctly;
            a task that is missing is not compared. None means the model at alpha 0.
        baseline: name to float32 [N, D], the features at alpha 0 of every task, if the caller has them.

    Raises:
        ArgumentError: an argument has the wrong type.
        ConfigError: a name has no task, or the rule cannot be applied to these.
        NoAcceptableAlphaError: no alpha above 0 holds the limits of `floor` on any path; carries all curves. With
            `certified`, alpha 0 is chosen then, and the reason says why.
        WeightsMismatchError: a term does not belong to the base.
        ProfileError: the tower has no depth that a profile other than `flat` knows.
    """
    require_type("base", base, BaseModel, "pass the model that load_base gives")
    require_type("options", options, AlphaOptions, "pass AlphaOptions()")
    path = path if isinstance(path, Path) else Path.of(path)
    require_names("patching", patching)
    require_names("supported", supported)
    _require_tasks(tasks, [*patching, *supported])
    goal = Goal.of(options, patching, supported, reference, len(options.profiles))
    goal.require_usable()
    known = list(known)
    tries = []
    for profile in options.profiles:
        evaluator = PathEvaluator(
            base,
            path.with_profile(profile),
            tasks,
            device=device,
            on_point=on_point,
            known=known,
            baseline=baseline,
            precision=options.precision,
            paired=True,
            reference=reference_correct,
        )
        tries.append(_search(evaluator, goal, options, profile))
        # All profiles start at the same weights: what is known at alpha 0 serves the next one too.
        known += [replace(tries[-1].curve[0], profile=later) for later in options.profiles]
        baseline = evaluator.baseline
    return _better(tries, goal)


@dataclass(frozen=True, eq=False)
class _Try:
    """One profile's search; in place of a choice it may have the reason why there is none."""

    profile: str
    curve: Sequence[CurvePoint]
    choice: AlphaChoice | None
    refusal: str
    num_forwards: int
    interpolant: FeatureCurve


def _search(evaluator: PathEvaluator, goal: Goal, options: AlphaOptions, profile: str) -> _Try:
    alphas, nodes = options.alphas(profile), options.node_alphas(profile)
    if options.strategy == "grid":
        curve, interpolant = measure_grid(evaluator, alphas, nodes)
    else:
        interpolant = measure_nodes(evaluator, nodes)
        curve, interpolant = interpolate(evaluator, interpolant, alphas, goal, options.tolerance_points)
    choice, refusal = None, ""
    try:
        choice = goal.choose(curve, only_measured=True)
    except NoAcceptableAlphaError as error:
        refusal = str(error)
    return _Try(profile, curve, choice, refusal, evaluator.num_forwards, interpolant)


def _better(tries: Sequence[_Try], goal: Goal) -> AlphaSearch:
    """The search whose choice has the larger value; among equals the earlier profile.

    Where every path breaks the limits of `certified`, alpha 0 of the first: the curves are worth keeping.
    """
    chosen = [(each, each.choice) for each in tries if each.choice is not None]
    if not chosen:
        refusal = "; ".join(f"{each.profile}: {each.refusal}" for each in tries) if len(tries) > 1 else tries[0].refusal
        if goal.rule != "certified":
            raise NoAcceptableAlphaError(refusal, [point for each in tries for point in each.curve])
        chosen = [(tries[0], goal.nothing(tries[0].curve, refusal))]

    best, choice = max(chosen, key=lambda pair: goal.preference(pair[1], pair[0].curve))  # the first of several
    return AlphaSearch(
        choice=choice,
        profile=best.profile,
        curve=best.curve,
        curves={each.profile: each.curve for each in tries},
        num_forwards=sum(each.num_forwards for each in tries),
        interpolants={each.profile: each.interpolant for each in tries},
    )


def _require_tasks(tasks: Mapping[str, EvaluationTask], names: Sequence[str]) -> None:
    missing = sorted(set(names) - set(tasks))
    if missing:
        raise ConfigError(f"no images and head for {missing}: give every patching and supported task")
