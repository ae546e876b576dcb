"""How the points of an alpha curve are found: each one measured, or a few measured and the others interpolated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from torch import Tensor

from paint_core.alpha.curve import CurvePoint, PathEvaluator
from paint_core.alpha.interpolation import FeatureCurve
from paint_core.alpha.rules import Goal

_MAX_MEASURED = 12
"""When interpolation stops and the grid is evaluated: this many evaluations are more than half a grid."""

MIN_NODE_DISTANCE = 0.05
"""As a share of the path: two nodes closer than this make a polynomial of their rounding errors, not of the path."""


def measure(evaluator: PathEvaluator, alphas: Sequence[float]) -> list[CurvePoint]:
    """The points at these alphas, each by a true evaluation."""
    return [evaluator.point(alpha) for alpha in alphas]


def measure_grid(
    evaluator: PathEvaluator, alphas: Sequence[float], nodes: Sequence[float]
) -> tuple[list[CurvePoint], FeatureCurve]:
    """The points at these alphas, each by a true evaluation, and the interpolant through some of them.

    Args:
        nodes: at least two of the alphas; they are encoded even where their points are known.
    """
    points, at_nodes = [], {}
    for alpha in alphas:
        if alpha in nodes:
            at_nodes[alpha] = evaluator.features(alpha)
        points.append(evaluator.point(alpha))
    return points, FeatureCurve.build(evaluator.base, at_nodes, evaluator.tasks, evaluator.profile)


def measure_nodes(evaluator: PathEvaluator, nodes: Sequence[float]) -> FeatureCurve:
    """The interpolant through evaluations at these alphas, at least two.

    `on_point` is also called with the nodes' scores.
    """
    at_nodes = {}
    for alpha in nodes:
        at_nodes[alpha] = evaluator.features(alpha)
        evaluator.point(alpha)
    return FeatureCurve.build(evaluator.base, at_nodes, evaluator.tasks, evaluator.profile)


def interpolate(
    evaluator: PathEvaluator,
    interpolant: FeatureCurve,
    alphas: Sequence[float],
    goal: Goal,
    tolerance_points: float,
) -> tuple[list[CurvePoint], FeatureCurve]:
    """The points at these alphas: predicted, but measured where the goal would choose.

    The goal's choice is evaluated, and becomes another node unless it is next to one. If the maximised value differs
    from its prediction by more than the tolerance, or the point misses the floor, the goal chooses again on the curve
    with the measured point; otherwise the curve is complete. If predictions keep failing, the whole grid is evaluated.

    Args:
        alphas: where to choose from, rising from 0.

    Returns:
        One point per alpha, and the interpolant with the nodes that were added.
    """
    measured = {alpha: evaluator.point(alpha) for alpha in interpolant.nodes}
    while True:
        curve = _complete(alphas, measured, interpolant, evaluator.reference)
        wanted = goal.wanted(curve)
        if wanted.measured:
            return curve, interpolant
        if len(measured) >= _MAX_MEASURED:
            return measure(evaluator, alphas), interpolant
        truth = measured[wanted.alpha] = evaluator.point(wanted.alpha)
        if _is_apart(wanted.alpha, interpolant.nodes):
            interpolant = interpolant.with_node(wanted.alpha, evaluator.features(wanted.alpha))
        as_predicted = _is_close(wanted, truth, goal, tolerance_points)
        if as_predicted and goal.standing(truth, curve) == goal.standing(wanted, curve):
            return _complete(alphas, measured, interpolant, evaluator.reference), interpolant


def _is_apart(alpha: float, nodes: Sequence[float]) -> bool:
    """Whether an alpha is far enough from every node to become one."""
    # A hair less, so that alphas of a grid which are that far apart stay so in floating point.
    least = (MIN_NODE_DISTANCE - 1e-9) * nodes[-1]
    return min(abs(alpha - node) for node in nodes) >= least


def _complete(
    alphas: Sequence[float],
    measured: dict[float, CurvePoint],
    interpolant: FeatureCurve,
    reference: Mapping[str, Tensor],
) -> list[CurvePoint]:
    missing = [alpha for alpha in alphas if alpha not in measured]
    points = measured | {point.alpha: point for point in interpolant.curve(missing, reference=reference)}
    return [points[alpha] for alpha in alphas]


def _is_close(predicted: CurvePoint, truth: CurvePoint, goal: Goal, tolerance_points: float) -> bool:
    """Whether what the goal maximises is predicted within the tolerance, or one image."""
    allowed = max(Fraction(tolerance_points) / 100, goal.worth_of_an_image(truth))
    return abs(goal.value(predicted) - goal.value(truth)) <= allowed
