"""Sequential patching: one task after the other, each on top of the patches before it (PAINT, section 2).

Needs one task's training data at a time, and validation data of the tasks seen so far.
"""

from paint_core.data import Task
from paint_core.evaluation import Score
from paint_core.patching.context import PatchContext
from paint_core.patching.outcome import Outcome, StageResult
from paint_core.patching.storing import search_stored
from paint_core.patching.terms import NamedTerm
from paint_core.weights import TaskVector, Term

_FULL_NOTE = (
    "`fine_tuned` is the sum of all updates in full: the later ones were trained from partly patched weights, so this "
    "model was never trained as a whole, and it is not the sequential fine-tuning baseline of the paper"
)


def patch_sequential(context: PatchContext) -> Outcome:
    """The patch of the tasks in the order given: one term each, measured from the mix before it.

    The choice of alpha in each stage considers the tasks so far and the supported ones. The allowed drop of a supported
    task is measured from theta_0, not from the previous stage.
    """
    vectors: dict[str, TaskVector] = {}
    stages: list[StageResult] = []
    terms: tuple[NamedTerm, ...] = ()
    for position, task in enumerate(context.tasks):
        fixed = [Term(vectors[term.key], term.coefficient, term.profile) for term in terms]
        stage, tau = _stage(context, task, context.tasks[: position + 1], (terms, fixed), _zero_shot(context, stages))
        vectors[stage.key] = tau
        stages.append(stage)
        terms += stage.chosen
    full = tuple(NamedTerm(term.key, 1.0, builds_on=term.builds_on) for term in terms)
    return Outcome(vectors, terms, full, tuple(stages), notes=(_FULL_NOTE,))


def _stage(
    context: PatchContext,
    task: Task,
    seen: tuple[Task, ...],
    before: tuple[tuple[NamedTerm, ...], list[Term]],
    reference: dict[str, Score] | None,
) -> tuple[StageResult, TaskVector]:
    names, fixed = before
    assert task.train is not None  # the plan has checked it
    key = f"task:{task.name}"
    tau = context.train(key, task.head, task.train, task.validation, fixed)
    moving = (NamedTerm(key, 1.0, builds_on=tuple(term.key for term in names if term.coefficient)),)
    found = search_stored(context, key, moving, {key: tau}, seen, fixed=fixed, reference=reference)
    supported = tuple(each.name for each in context.supported)
    stage = StageResult(
        key, found.search, tuple(each.name for each in seen), supported, moving, names, storage=found.storage
    )
    return stage, found.vectors[key]


def _zero_shot(context: PatchContext, stages: list[StageResult]) -> dict[str, Score] | None:
    """The supported tasks' scores at alpha 0 of the first stage, whose path is the only one that starts at theta_0."""
    if not stages:
        return None
    scores = stages[0].search.curve[0].scores
    return {task.name: scores[task.name] for task in context.supported}
