"""The search for alpha: scores along the line from theta_0 to theta_1, and the choice of a point on it."""

import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from paint_core.datasets import LabelledImages
from paint_core.errors import ConfigError
from paint_core.evaluation import Score, evaluate
from paint_core.models import BaseModel
from paint_core.weights import Term, mix_into


@dataclass(frozen=True)
class CurvePoint:
    """The scores of every task at one alpha."""

    alpha: float
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class AlphaChoice:
    """The chosen alpha.

    Attributes:
        alpha: in [0, 1].
        combined: its combined accuracy, in [0, 1].
        reason: one sentence for a report.
    """

    alpha: float
    combined: float
    reason: str


def grid(step: float = 0.05) -> tuple[float, ...]:
    """The alphas 0, step, 2 step, ..., 1 (the paper plots 0.05); both ends are exact.

    Args:
        step: distance in (0, 1]; the last one is shorter if it does not divide 1.

    Returns:
        Rising numbers.

    Raises:
        ConfigError: the step is not in (0, 1].
    """
    if not 0 < step <= 1:
        raise ConfigError(f"the step of the alpha grid is {step}: choose one in (0, 1]")
    exact = Fraction(step).limit_denominator(10**6) or Fraction(step)
    count = math.ceil(1 / exact)
    return (*(float(index * exact) for index in range(count)), 1.0)


def evaluate_curve(
    base: BaseModel,
    tau: Mapping[str, Tensor],
    tasks: Mapping[str, tuple[Tensor, LabelledImages]],
    alphas: Sequence[float],
    *,
    device: torch.device | str = "cpu",
    on_point: Callable[[CurvePoint], None] | None = None,
    known: Sequence[CurvePoint] = (),
) -> list[CurvePoint]:
    """The scores of theta_0 + alpha * tau on every task, at every alpha.

    Args:
        base: theta_0; not changed.
        tau: the update.
        tasks: name to (head [C, D], split); validation splits when an alpha is to be chosen.
        alphas: where to evaluate; any finite numbers.
        device: where to evaluate.
        on_point: called after each new point; may raise to stop.
        known: points of an interrupted search; not evaluated again.

    Returns:
        One point per alpha, in the order of `alphas`.

    Raises:
        ConfigError: an alpha is not finite.
        WeightsMismatchError: tau does not belong to the base.
    """
    points = {point.alpha: point for point in known}
    visual = copy.deepcopy(base.visual).to(device)
    theta_base = {name: tensor.detach().to(device) for name, tensor in base.visual.state_dict().items()}
    update = {name: tensor.to(device) for name, tensor in tau.items()}
    for alpha in alphas:
        if alpha in points:
            continue
        mix_into(visual, theta_base, [Term(update, alpha)])
        scores = {name: evaluate(visual, base, head, images, device=device) for name, (head, images) in tasks.items()}
        points[alpha] = CurvePoint(alpha, scores)
        if on_point is not None:
            on_point(points[alpha])
    return [points[alpha] for alpha in alphas]


def combined(point: CurvePoint, patching: Collection[str], supported: Collection[str]) -> float:
    """The mean of two means: accuracy over the supported and over the patching tasks (PAINT, footnote 2).

    Both groups weigh one half, whatever their sizes. Without supported tasks it is the patching mean.

    Args:
        point: with a score for every name.
        patching: at least one name.
        supported: any number of names.

    Returns:
        A number in [0, 1].

    Raises:
        ConfigError: no patching task.
    """
    if not patching:
        raise ConfigError("there is no patching task: name at least one")
    groups = [names for names in (patching, supported) if names]
    return sum(sum(point.scores[name].accuracy for name in names) / len(names) for names in groups) / len(groups)


def choose_alpha(curve: Sequence[CurvePoint], patching: Collection[str], supported: Collection[str]) -> AlphaChoice:
    """The alpha of the best combined accuracy; among equals the smallest, which stays nearest to theta_0.

    Args:
        curve: at least one point.
        patching: names of the tasks to improve.
        supported: names of the tasks that must not get worse.

    Returns:
        The choice.

    Raises:
        ConfigError: an empty curve or no patching task.
    """
    if not curve:
        raise ConfigError("the alpha curve is empty: evaluate at least one alpha")
    # Rounded, because equal accuracies may differ in the last bit after summing in another order.
    ranked = {point.alpha: round(combined(point, patching, supported), 12) for point in curve}
    best = max(ranked.values())
    ties = sorted(alpha for alpha, value in ranked.items() if value == best)
    groups = "supported and patching tasks" if supported else "the patching tasks"
    reason = f"the best mean accuracy over {groups} on validation data ({100 * best:.2f} %)"
    if len(ties) > 1:
        reason += f"; the smallest of {len(ties)} equal alphas"
    return AlphaChoice(ties[0], best, reason)
