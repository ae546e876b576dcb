"""Broad transfer (PAINT, section 6, Table 1): does patching some classes help others that were never trained on?

The classes of a task are cut into two random halves; the patch sees the first half only, and the other half is judged
before and after, under a head of its own classes.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paint_core.datasets import LabelledImages, Task
from paint_core.errors import ConfigError
from paint_core.evaluation import Score
from paint_core.models import BaseModel
from paint_core.patching.context import Event
from paint_core.patching.outcome import PatchResult
from paint_core.patching.plan import PatchPlan
from paint_core.patching.run import run_patch
from paint_core.randomness import generator
from paint_core.statistics import Difference


@dataclass(frozen=True, eq=False)
class BroadTransfer:
    """What patching one half of the classes did to the other.

    Attributes:
        seen: classnames that were patched.
        unseen: classnames that were not.
        before: test score on the unseen half of theta_0.
        after: of the patch.
        difference: of the accuracies, after minus before.
        patch: the patch; the unseen half is among its scores, as a task of the name `unseen`.
    """

    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    before: Score
    after: Score
    difference: Difference
    patch: PatchResult


def broad_transfer(
    base: BaseModel,
    task: Task,
    supported: Sequence[Task],
    plan: PatchPlan,
    *,
    seed: int = 0,
    anchors: Tensor | None = None,
    device: torch.device | str = "cpu",
    on_event: Callable[[Event], None] | None = None,
) -> BroadTransfer:
    """What patching a random half of the classes does to the other half (PAINT, Table 1).

    Alpha is chosen with the seen half and the supported tasks; the unseen half chooses nothing.

    Args:
        base: theta_0; not changed.
        task: at least four classes, each with training, validation and test images.
        supported: tasks that must not get worse.
        plan: method `single`.
        seed: of the halves, >= 0.
        anchors: as for `run_patch`.
        device: where to compute.
        on_event: as for `run_patch`.

    Returns:
        Both halves and what happened.

    Raises:
        ConfigError: fewer than four classes, or another method.
        EmptySplitError: one half of a split has no images.
    """
    if len(task.head) < 4:
        raise ConfigError(f"{task.name!r} has {len(task.head)} classes: two halves to tell apart need at least four")
    order = torch.randperm(len(task.head), generator=generator("halves", seed, 0)).tolist()
    half = (len(order) + 1) // 2
    seen, unseen = restrict_classes(task, order[:half]), restrict_classes(task, order[half:])
    onlooker = replace(unseen, name="unseen", train=None)
    result = run_patch(
        base, [seen], supported, plan, anchors=anchors, device=device, on_event=on_event, onlookers=[onlooker]
    )
    return BroadTransfer(
        seen.test.classnames,
        unseen.test.classnames,
        result.zero_shot["unseen"],
        result.patched["unseen"],
        result.changes["unseen"].difference,
        result,
    )


def restrict_classes(task: Task, classes: Collection[int]) -> Task:
    """The task with some of its classes only: images, labels, classnames and head.

    Args:
        task: any.
        classes: rows of the head, at least one; their order means nothing.

    Returns:
        A new task; the classes keep their order.

    Raises:
        ConfigError: a class that the head does not have.
        EmptySplitError: a split without images of these classes.
    """
    kept = sorted(set(classes))
    if not kept or not 0 <= kept[0] <= kept[-1] < len(task.head):
        raise ConfigError(
            f"classes {kept[:5]} are not rows of the head of {task.name!r}: choose 0..{len(task.head) - 1}"
        )
    train = None if task.train is None else _restrict(task.train, kept)
    splits = (_restrict(split, kept) for split in (task.validation, task.test))
    return Task(task.name, task.head[kept], train, *splits)


def _restrict(split: LabelledImages, classes: Sequence[int]) -> LabelledImages:
    inside = torch.isin(split.labels, torch.tensor(classes))
    labels = torch.searchsorted(torch.tensor(classes), split.labels[inside])
    return LabelledImages(split.images[inside], labels, tuple(split.classnames[index] for index in classes))
