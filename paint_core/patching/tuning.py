"""A small search over learning rate and iterations: every trial is a whole patch, and the best one is the patch.

Each trial is fine-tuned with other settings from the same start, on the same images and anchors, and searched for alpha
as any patch. The rule that chooses alpha chooses the trial. So one trial more costs a fine-tuning and a search.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from paint_core.alpha.rules import exact_mean
from paint_core.config.finetune import FinetuneConfig
from paint_core.errors import NoAcceptableAlphaError, NonFiniteLossError
from paint_core.patching.context import PatchContext
from paint_core.patching.storing import StoredSearch, search_stored
from paint_core.patching.terms import NamedTerm
from paint_core.patching.trials import Trial, shared_error, trial_configs
from paint_core.weights import TaskVector

Train = Callable[[str, FinetuneConfig], TaskVector]
"""Key and settings to the task vector of fine-tuning with them."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """The best trial.

    Attributes:
        found: its task vector and search.
        key: of its task vector.
        trials: all of them, in their order.
    """

    found: StoredSearch
    key: str
    trials: tuple[Trial, ...]


@dataclass(frozen=True, eq=False)
class _Best:
    found: StoredSearch
    number: int
    preference: tuple[bool, Fraction]


def search_trials(context: PatchContext, train: Train) -> Tuned:
    """The best of the plan's trials by its rule, on validation splits; among equals the first.

    With rule `certified` the trials share its error, as paths to choose from do. A trial that diverges or has no
    acceptable alpha is out.

    Raises:
        NoAcceptableAlphaError: no trial has an acceptable alpha; or, if all diverged,
        NonFiniteLossError: that of the first.
    """
    assert context.plan.tune is not None  # only then is it called
    configs = trial_configs(context.plan.finetune, context.plan.tune)
    options, trials = shared_error(context.plan.alpha, len(configs)), []
    best: _Best | None = None
    errors: list[NoAcceptableAlphaError | NonFiniteLossError] = []
    for number, config in enumerate(configs, 1):
        trial = Trial(number, config)
        try:
            tau = train(trial.key, config)
            moving = (NamedTerm(trial.key, 1.0),)
            found = search_stored(context, trial.key, moving, {trial.key: tau}, context.tasks, options=options)
        except (NoAcceptableAlphaError, NonFiniteLossError) as error:
            errors.append(error)
            trial = replace(trial, failure=str(error))
        else:
            trial = _judged(context, trial, found)
            preference = context.goal.preference(found.search.choice, found.search.curve)
            if best is None or preference > best.preference:
                best = _Best(found, number, preference)
        trials.append(trial)
        context.tell(trial)
    if best is None:
        raise next((error for error in errors if isinstance(error, NoAcceptableAlphaError)), errors[0])
    chosen = trials[best.number - 1] = replace(trials[best.number - 1], is_chosen=True)
    return Tuned(best.found, chosen.key, tuple(trials))


def _judged(context: PatchContext, trial: Trial, found: StoredSearch) -> Trial:
    alpha = found.search.choice.alpha
    point = next(point for point in found.search.curve if point.alpha == alpha)
    patching, supported = (
        float(exact_mean(point, [task.name for task in tasks], "accuracy")) if tasks else None
        for tasks in (context.tasks, context.supported)
    )
    return replace(trial, alpha=alpha, patching=patching, supported=supported)
