"""Alpha by cross-validation: fine-tune once per fold, choose on the summed counts (see `alpha/cross_validation.py`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from paint_core.alpha import AlphaChoice, AlphaSearch, CurvePoint, Path, evaluate_curve
from paint_core.alpha.cross_validation import fold_tasks, sum_curves
from paint_core.data import Task
from paint_core.errors import NoAcceptableAlphaError
from paint_core.patching.context import PatchContext
from paint_core.weights import TaskVector, Term

Train = Callable[[str, Sequence[Task]], TaskVector]
"""Key and tasks to the task vector of fine-tuning on their training splits."""


def search_over_folds(context: PatchContext, train: Train) -> AlphaSearch:
    """The alpha that is best over all folds together.

    A supported task is evaluated on its whole validation split in every fold: its score is the mean over the folds'
    models, of as many images as the split has.
    """
    assert context.plan.folds is not None  # only then is it called
    seed = context.plan.finetune.seed
    divided = [fold_tasks(task, context.plan.folds, seed) for task in context.tasks]
    folds = [
        _search_fold(context, f"fold {number}", tasks, train)
        for number, tasks in enumerate(zip(*divided, strict=True), 1)
    ]
    while True:
        curves = {
            profile: sum_curves([fold.curves[profile] for fold in folds], context.goal.supported)
            for profile in context.plan.alpha.profiles
        }
        wanted = [context.goal.wanted(curve) for curve in curves.values()]
        guessed = next((point for point in wanted if not point.measured), None)
        if guessed is None:
            break
        folds = [fold.measured(context, guessed.profile, guessed.alpha) for fold in folds]
    profile, choice = _choose(context, curves)
    return AlphaSearch(choice, profile, curves[profile], curves, sum(fold.num_forwards for fold in folds))


@dataclass(frozen=True, eq=False)
class _Fold:
    """One fold's task vector as a path, and what is known along it, per profile."""

    key: str
    tasks: tuple[Task, ...]
    path: Path
    curves: dict[str, Sequence[CurvePoint]]
    num_forwards: int

    def has_measured(self, profile: str, alpha: float) -> bool:
        return any(point.alpha == alpha and point.measured for point in self.curves[profile])

    def measured(self, context: PatchContext, profile: str, alpha: float) -> "_Fold":
        """The fold with a true evaluation in place of the interpolated one."""
        if self.has_measured(profile, alpha):
            return self
        everything = {task.name: (task.head, task.validation) for task in (*self.tasks, *context.supported)}
        key = f"select:{self.key}"
        with context.journal.stage("select"):
            (new,) = evaluate_curve(
                context.base,
                self.path.with_profile(profile),
                everything,
                [alpha],
                device=context.device,
                on_point=lambda point: context.record(key, point),
                known=context.journal.points(key),
                precision=context.precision.precision,
            )
        curve = [new if point.alpha == alpha else point for point in self.curves[profile]]
        return replace(self, curves={**self.curves, profile: curve}, num_forwards=self.num_forwards + 1)


def _search_fold(context: PatchContext, key: str, tasks: tuple[Task, ...], train: Train) -> _Fold:
    path = Path((Term(train(key, tasks), 1.0),))
    # The rule speaks once, over all folds: here it is the one that always finds something.
    options = replace(context.plan.alpha, rule="combined", max_supported_drop=None)
    search = context.search(key, path, tasks, options=options)
    return _Fold(key, tasks, path, dict(search.curves), search.num_forwards)


def _choose(context: PatchContext, curves: dict[str, list[CurvePoint]]) -> tuple[str, AlphaChoice]:
    """The profile and alpha that the plan's rule prefers; among equals the first profile."""
    goal = context.goal
    found: dict[str, tuple[Fraction, AlphaChoice]] = {}
    refusals: list[NoAcceptableAlphaError] = []
    for profile, curve in curves.items():
        try:
            choice = goal.choose(curve)
        except NoAcceptableAlphaError as error:
            refusals.append(error)
            continue
        found[profile] = goal.value(next(point for point in curve if point.alpha == choice.alpha)), choice
    if not found:
        reasons = "; ".join(dict.fromkeys(map(str, refusals)))
        raise NoAcceptableAlphaError(reasons, [point for curve in curves.values() for point in curve])
    best = max(found, key=lambda profile: found[profile][0])
    return best, found[best][1]
