"""Parallel patching: every task from the same base, then added (PAINT, arXiv 2208.05592, section 2).

Fine-tuning runs are independent, so this works where no one has all the data; the paper finds it the
weakest of the three. One scalar moves along the plain average of the fine-tuned models, or along what a merging method
makes of the task vectors; or each task gets a coefficient of its own, by black-box search from the scalar's result.
"""

from collections.abc import Mapping

from paint_core.alpha import Path
from paint_core.data import Task
from paint_core.merging import merge
from paint_core.patching.black_box import search_per_task
from paint_core.patching.coefficients import CoefficientSearch
from paint_core.patching.context import PatchContext
from paint_core.patching.outcome import Outcome, StageResult
from paint_core.patching.terms import NamedTerm
from paint_core.weights import TaskVector, Term


def patch_parallel(context: PatchContext) -> Outcome:
    """The patch of several independently trained task vectors.

    Returns:
        The patch: a term per task; or one term for a merge that leaves a single task vector.
    """
    trained: dict[str, TaskVector] = {}
    for task in context.tasks:
        trained[f"task:{task.name}"] = train_part(context, task)
    moving, vectors = _direction(context, trained)
    path = Path(tuple(Term(vectors[term.key], term.coefficient) for term in moving))
    search = context.search("parallel", path, context.tasks)
    found: CoefficientSearch | None = None
    if context.plan.coefficients == "per_task":
        found = search_per_task(context, path, search)
    names = tuple(task.name for task in context.tasks)
    supported = tuple(task.name for task in context.supported)
    stage = StageResult("parallel", search, names, supported, moving, coefficients=found)
    specialised = dict(zip(names, trained, strict=True))
    return Outcome(vectors, stage.chosen, moving, (stage,), specialised, _notes(found))


def train_part(context: PatchContext, task: Task) -> TaskVector:
    """The update from theta_0 of one of the tasks; it depends on no other one."""
    assert task.train is not None  # the plan has checked it
    return context.train(f"task:{task.name}", task.head, task.train, task.validation)


def _direction(
    context: PatchContext, trained: Mapping[str, TaskVector]
) -> tuple[tuple[NamedTerm, ...], dict[str, TaskVector]]:
    """The terms at alpha 1, and all task vectors that there are now."""
    method = context.plan.merge
    if method in ("average", "task_arithmetic"):
        weight = 1 / len(trained) if method == "average" else 1.0
        return tuple(NamedTerm(key, weight) for key in trained), dict(trained)
    key = f"merged:{method}"
    merged = context.journal.task_vector(key, lambda _: merge(method, list(trained.values())))
    return (NamedTerm(key, 1.0),), {**trained, key: merged}


def _notes(found: CoefficientSearch | None) -> tuple[str, ...]:
    if found is None:
        return ()
    if found.coefficients == found.start:
        return (f"none of {found.num_evaluations} evaluated coefficients was better than the common scalar",)
    return (
        f"one coefficient per task, the best of {found.num_evaluations} evaluated: the objective on validation data is "
        f"{100 * found.value:.2f} instead of {100 * found.start_value:.2f} with the common scalar",
    )
