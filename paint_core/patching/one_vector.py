"""Patches of one task vector, single and joint: alpha from the validation split or by cross-validation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from paint_core.alpha.cross_validation import labelled_images
from paint_core.config.finetune import FinetuneConfig
from paint_core.data import Task
from paint_core.patching.context import PatchContext
from paint_core.patching.folds import search_over_folds
from paint_core.patching.outcome import Outcome, StageResult
from paint_core.patching.storing import UNROUNDED, Storage, search_stored
from paint_core.patching.terms import NamedTerm
from paint_core.patching.trials import Trial
from paint_core.patching.tuning import search_trials
from paint_core.weights import TaskVector, rounded


class Train(Protocol):
    """Fine-tuning on the training splits of tasks, with the plan's settings or others."""

    def __call__(self, key: str, tasks: Sequence[Task], config: FinetuneConfig | None = None) -> TaskVector:
        """The task vector."""
        ...


_FOLD_NOTES = (
    "alpha was chosen by cross-validation over training and validation images together; the patch was then fine-tuned "
    "on all of them",
    "validation accuracies cover all folds: each image of a patching task is evaluated by a model that was not trained "
    "on it, and accuracies of supported tasks are means over the models of the folds; they estimate the procedure, not "
    "this patch, and at the chosen alpha they are slightly optimistic, because alpha was chosen on them",
    "this patch was trained on its validation images: only its accuracies on test splits are unbiased",
)

_TRIALS_NOTE = (
    "learning rate and iterations were chosen on the validation images, as alpha was: the chosen trial's validation "
    "accuracies are optimistic, its accuracies on test splits are not"
)

_FOLD_FLOOR_NOTE = (
    "the allowed drops of the supported tasks hold for the mean over the models of the folds, not for this patch, "
    "which was not evaluated on validation images: only the test splits show its drops"
)


def patch_with_one_vector(context: PatchContext, key: str, train: Train) -> Outcome:
    """The patch whose only term is alpha times one task vector.

    Args:
        key: the task vector's name; with folds the one that is used is called `all`, with trials `trial` and its
            number.
    """
    names = tuple(task.name for task in context.tasks)
    supported = tuple(task.name for task in context.supported)
    notes: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()
    if context.plan.tune is not None:
        tuned = search_trials(context, lambda name, config: train(name, context.tasks, config))
        search, vectors, storage = tuned.found.search, tuned.found.vectors, tuned.found.storage
        moving, trials, notes = (NamedTerm(tuned.key, 1.0),), tuned.trials, (_TRIALS_NOTE,)
    elif context.plan.folds is None:
        moving = (NamedTerm(key, 1.0),)
        found = search_stored(context, key, moving, {key: train(key, context.tasks)}, context.tasks)
        search, vectors, storage = found.search, found.vectors, found.storage
    else:
        bits = context.plan.stored_bits
        assert bits != "auto"  # with folds it means 16
        search = search_over_folds(context, lambda name, tasks: rounded(train(name, tasks), bits))
        everything = [replace(task, train=labelled_images(task)) for task in context.tasks]
        tau = train("all", everything)
        vectors, storage = {"all": rounded(tau, bits)}, UNROUNDED if bits == 32 else Storage(bits, None)
        if bits != 32:
            context.journal.store("all", tau, bits)
        moving, notes = (NamedTerm("all", 1.0),), _FOLD_NOTES
        if context.plan.alpha.rule == "floor":
            notes += (_FOLD_FLOOR_NOTE,)
    stage = StageResult(key, search, names, supported, moving, storage=storage)
    return Outcome(vectors, stage.chosen, moving, (stage,), notes=notes, trials=trials)
