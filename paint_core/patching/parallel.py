"""Parallel patching: every task from the same base, then added (PAINT, arXiv 2208.05592, section 2).

Fine-tuning runs are independent, so this works where no one has all the data; the paper finds it the
weakest of the three. One scalar moves along the plain average of the fine-tuned models, or along what a merging method
makes of the task vectors; or each task gets a coefficient of its own, by black-box search from the scalar's result.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from paint_core.data import Task
from paint_core.evaluation.scoring import eval_mode
from paint_core.merging import WITH_IMAGES, Moments, input_moments, merge
from paint_core.patching.black_box import search_per_task
from paint_core.patching.coefficients import CoefficientSearch
from paint_core.patching.context import PatchContext
from paint_core.patching.journal import Resume
from paint_core.patching.outcome import Outcome, StageResult
from paint_core.patching.storing import search_stored
from paint_core.patching.terms import NamedTerm
from paint_core.weights import TaskVector, Term, mix_into

NUM_PROXY_IMAGES = 32
"""Training images of each task that `esm` and `regmean` look at; their labels are not used."""


def patch_parallel(context: PatchContext) -> Outcome:
    """The patch of several independently trained task vectors.

    Returns:
        The patch: a term per task; or one term for a merge that leaves a single task vector.
    """
    trained: dict[str, TaskVector] = {}
    for task in context.tasks:
        trained[f"task:{task.name}"] = train_part(context, task)
    moving, vectors = _direction(context, trained)
    stored = search_stored(context, "parallel", moving, vectors, context.tasks)
    found: CoefficientSearch | None = None
    if context.plan.coefficients == "per_task":
        found = search_per_task(context, stored.path, stored.search)
    names = tuple(task.name for task in context.tasks)
    supported = tuple(task.name for task in context.supported)
    stage = StageResult("parallel", stored.search, names, supported, moving, coefficients=found, storage=stored.storage)
    specialised = dict(zip(names, trained, strict=True))
    return Outcome({**vectors, **stored.vectors}, stage.chosen, moving, (stage,), specialised, _notes(found))


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
    vectors = list(trained.values())

    def make(_: Resume) -> TaskVector:
        return merge(method, vectors, _moments(context, vectors) if method in WITH_IMAGES else None)

    return (NamedTerm(key, 1.0),), {**trained, key: context.journal.task_vector(key, make)}


def _moments(context: PatchContext, vectors: Sequence[TaskVector]) -> list[Moments]:
    """What the layers of each task's own tower receive from some of its training images."""
    tower = copy.deepcopy(context.base.visual).to(context.device)
    return [_moments_of(context, tower, task, tau) for task, tau in zip(context.tasks, vectors, strict=True)]


def _moments_of(context: PatchContext, tower: nn.Module, task: Task, tau: TaskVector) -> Moments:
    assert task.train is not None  # the plan has checked it
    order = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(context.plan.finetune.seed))
    images = task.train.images[order[:NUM_PROXY_IMAGES].sort().values]
    mix_into(tower, context.theta_base, [Term(tau, 1.0)])
    with eval_mode(tower):
        return input_moments(tower, context.base.preprocess.normalise(images, torch.device(context.device)))


def _notes(found: CoefficientSearch | None) -> tuple[str, ...]:
    if found is None:
        return ()
    if found.coefficients == found.start:
        return (f"none of {found.num_evaluations} evaluated coefficients was better than the common scalar",)
    return (
        f"one coefficient per task, the best of {found.num_evaluations} evaluated: the objective on validation data is "
        f"{100 * found.value:.2f} instead of {100 * found.start_value:.2f} with the common scalar",
    )
