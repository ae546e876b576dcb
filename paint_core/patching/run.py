"""Patching, from images to a reported mix, with every method behind one function."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from paint_core.data import Task
from paint_core.errors import ConfigError, EmptySplitError
from paint_core.evaluation.feature_cache import FeatureCache
from paint_core.models import BaseModel
from paint_core.models.heads import require_head
from paint_core.patching.context import Event, PatchContext
from paint_core.patching.joint import patch_joint
from paint_core.patching.journal import Journal, NoJournal
from paint_core.patching.outcome import Outcome, PatchResult
from paint_core.patching.parallel import patch_parallel, train_part
from paint_core.patching.plan import Method, PatchPlan
from paint_core.patching.report import report
from paint_core.patching.sequential import patch_sequential
from paint_core.patching.single import patch_single
from paint_core.runtime.arguments import require_device, require_type
from paint_core.training.anchoring import drop_evaluation_images, require_anchors
from paint_core.weights import TaskVector

METHODS: Mapping[Method, Callable[[PatchContext], Outcome]] = {
    "single": patch_single,
    "joint": patch_joint,
    "sequential": patch_sequential,
    "parallel": patch_parallel,
}


def run_patch(
    base: BaseModel,
    tasks: Sequence[Task],
    supported: Sequence[Task],
    plan: PatchPlan,
    *,
    anchors: Tensor | None = None,
    device: torch.device | str = "cpu",
    journal: Journal | None = None,
    on_event: Callable[[Event], None] | None = None,
    transfer: Sequence[Task] = (),
    feature_cache: FeatureCache | None = None,
) -> PatchResult:
    """A patch that improves the tasks without degrading the supported ones (PAINT, arXiv 2208.05592).

        transfer: tasks that have no part in the patch, evaluated on their test splits before and after it (broad
    the same arguments and a persistent journal trains nothing twice, and on a CPU gives bit-identical results.

    Args:
        tasks: to improve, each with a training split; `sequential` takes them in this order.
        supported: tasks that must not get worse; if empty, alpha is the best for the patching tasks alone.
        anchors: uint8 [M, S, S, 3], an unlabelled pool; given if and only if the plan's `anchor_weight` is above 0.
            Images of any task's validation or test split are left out, and a note says how many.
        journal: results of earlier attempts; None records nothing.
        on_event: called with every step and point; may raise to stop.
        transfer: tasks that have no part in the patch; their test splits are evaluated before and after it (broad
            transfer; PAINT, section 6, Table 2).
        feature_cache: keeps the features at theta_0, which every patch of this base on these images needs; None
            computes them again.

    Raises:
        ArgumentError: an argument has the wrong type.
        ConfigError: the plan does not fit the tasks or the anchors, or this machine has no such device.
        EmptySplitError: a task to improve has no training split, or no anchor image is left.
        NoAcceptableAlphaError: no alpha meets the floor.
        NonFiniteLossError: fine-tuning diverged.
    """
    _require_arguments(base, plan, {"tasks": tasks, "supported": supported, "transfer": transfer})
    device = require_device(device)
    plan.require_tasks(tasks, supported, transfer)
    record = NoJournal() if journal is None else journal
    pool, notes = _usable_anchors(base, anchors, (*tasks, *supported, *transfer))
    if plan.method not in METHODS:
        raise ConfigError(f"method {plan.method!r} is another function's: call run_{plan.method}")
    context = PatchContext(base, tuple(tasks), tuple(supported), plan, pool, device, record, on_event, feature_cache)
    outcome = METHODS[plan.method](context)
    return report(context, replace(outcome, notes=outcome.notes + notes), transfer)


def run_part(
    base: BaseModel,
    task: Task,
    plan: PatchPlan,
    *,
    anchors: Tensor | None = None,
    device: torch.device | str = "cpu",
    journal: Journal | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> TaskVector:
    """The task vector of one task of a parallel patch, so that several machines can train one each.

    `run_patch` with a journal that has all of them trains nothing and continues from there; on a CPU the result is
    bit-identical to training them itself.

    Args:
        plan: of the whole patch, method `parallel`.
        anchors: the patch's pool, without images of any of its tasks' validation and test splits.
        journal: results of earlier attempts; the task vector's key in it is `task:NAME`.
        on_event: called with every step; may raise to stop.

    Raises:
        ConfigError: the plan has another method or does not fit the anchors.
        EmptySplitError: the task has no training split.
    """
    if plan.method != "parallel":
        raise ConfigError(f"the tasks of method {plan.method!r} are not trained separately: use method 'parallel'")
    if task.train is None:
        raise EmptySplitError(f"the task {task.name!r} has no training split: give one")
    record = NoJournal() if journal is None else journal
    pool, _ = _usable_anchors(base, anchors, (task,))
    return train_part(PatchContext(base, (task,), (), plan, pool, device, record, on_event), task)


def _require_arguments(base: BaseModel, plan: PatchPlan, lists: Mapping[str, Sequence[Task]]) -> None:
    require_type("base", base, BaseModel, "pass the model that load_base gives")
    for name, tasks in lists.items():
        require_type(name, tasks, (list, tuple), "pass a list of tasks")
        for task in tasks:
            require_type(f"one of {name}", task, Task, "pass Task(name, head, train, validation, test)")
            require_head(task.head, base.embed_dim)
    require_type("plan", plan, PatchPlan, "pass PatchPlan(method, finetune, alpha)")


def _usable_anchors(
    base: BaseModel, anchors: Tensor | None, tasks: Sequence[Task]
) -> tuple[Tensor | None, tuple[str, ...]]:
    """The pool without evaluation images, and a note if there were any."""
    if anchors is None:
        return None, ()
    require_anchors(anchors, base.image_size)
    pool = drop_evaluation_images(anchors, *(split for task in tasks for split in (task.validation, task.test)))
    num_dropped = len(anchors) - len(pool)
    if not num_dropped:
        return anchors, ()
    return pool, (f"{num_dropped} of {len(anchors)} anchor images are in a validation or test split and were excluded",)
