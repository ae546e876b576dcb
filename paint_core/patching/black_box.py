"""One coefficient per task vector, by black-box search on validation data (PAINT, section 2, footnote 4)."""

from dataclasses import replace

from paint_core.alpha import AlphaSearch, CurvePoint, Path, evaluate_curve
from paint_core.alpha.floor import Floor
from paint_core.patching.coefficients import Coefficients, CoefficientSearch, search_coefficients
from paint_core.patching.context import PatchContext

_KEY = "select:coefficients"


def search_per_task(context: PatchContext, path: Path, scalar: AlphaSearch) -> CoefficientSearch:
    """The search for coefficients, starting from the common scalar.

    Points in the journal have the number of the evaluation in place of alpha: the search evaluates the same
    coefficients in the same order every time.
    """
    points = {point.alpha: point for point in scalar.curve}
    known = {point.alpha: point for point in context.journal.points(_KEY)}
    num_asked = 0

    def objective(coefficients: Coefficients) -> float:
        nonlocal num_asked
        num_asked += 1
        point = known.get(float(num_asked))
        if point is None:
            point = replace(_measure(context, path, coefficients), alpha=float(num_asked))
            context.record(_KEY, point)
        return _value(context, point, points[0.0])

    with context.journal.stage("select"):
        return search_coefficients(
            objective,
            [term.coefficient * scalar.choice.alpha for term in path.moving],
            _value(context, points[scalar.choice.alpha], points[0.0]),
            max_evaluations=context.plan.coefficient_evaluations,
            seed=context.plan.finetune.seed,
        )


def _measure(context: PatchContext, path: Path, coefficients: Coefficients) -> CurvePoint:
    terms = [replace(term, coefficient=own) for term, own in zip(path.moving, coefficients, strict=True)]
    tasks = {task.name: (task.head, task.validation) for task in (*context.tasks, *context.supported)}
    (point,) = evaluate_curve(
        context.base, Path(terms), tasks, [1.0], device=context.device, precision=context.precision.precision
    )
    return point


def _value(context: PatchContext, point: CurvePoint, zero: CurvePoint) -> float:
    """What the rule maximises; below any accuracy, and by how much, where a supported task drops too far."""
    goal, limits = context.goal, context.plan.alpha.max_supported_drop
    if limits is not None:
        excess, _ = Floor.build([zero], goal.supported, limits, None).excess(point)
        if excess > 0:
            return float(-excess)
    return float(goal.value(point))
