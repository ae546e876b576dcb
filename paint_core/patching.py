"""Patching one task, from images to the chosen mix: fine-tune, measure tau, search alpha, report on test splits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from paint_core.alpha import AlphaChoice, CurvePoint, choose_alpha, evaluate_curve, grid
from paint_core.datasets import Task
from paint_core.errors import ConfigError, EmptySplitError
from paint_core.evaluation import Score
from paint_core.finetune import FinetuneConfig, StepReport, finetune
from paint_core.models import BaseModel
from paint_core.weights import TaskVector, Term, cosine, mix, relative_norm, task_vector

Event = StepReport | CurvePoint
"""What `on_event` receives: a fine-tuning step or a point of the validation curve."""


@dataclass(frozen=True, eq=False)
class PatchResult:
    """A patch and what it does.

    Attributes:
        task_vector: tau; with `choice.alpha` it makes the patched weights.
        choice: alpha and why.
        curve: validation scores at every alpha.
        zero_shot: test scores of theta_0, per task.
        finetuned: test scores of theta_1, per task.
        patched: test scores at the chosen alpha, per task.
        cosine: between theta_0 and theta_1.
        relative_norm: ||tau|| / ||theta_0||.
    """

    task_vector: TaskVector
    choice: AlphaChoice
    curve: Sequence[CurvePoint]
    zero_shot: Mapping[str, Score]
    finetuned: Mapping[str, Score]
    patched: Mapping[str, Score]
    cosine: float
    relative_norm: float

    def state_dict(self, base: BaseModel) -> dict[str, torch.Tensor]:
        """The patched image tower's weights, to be loaded into a copy of `base.visual`."""
        return mix(base.visual.state_dict(), [Term(self.task_vector, self.choice.alpha)])


def patch_single(
    base: BaseModel,
    task: Task,
    supported: Sequence[Task],
    config: FinetuneConfig,
    *,
    alphas: Sequence[float] = grid(),
    device: torch.device | str = "cpu",
    on_event: Callable[[Event], None] | None = None,
) -> PatchResult:
    """A patch of one task that spares the supported ones (PAINT, arXiv 2208.05592, section 2).

    Alpha is chosen on validation splits only; test splits are only reported.

    Args:
        base: theta_0; not changed.
        task: the patching task, with a training split.
        supported: tasks that must not get worse; none lets alpha be the best for the patching task alone.
        config: how to fine-tune.
        alphas: where to evaluate.
        device: where to compute.
        on_event: called after every step and every point; may raise to stop.

    Returns:
        The patch.

    Raises:
        EmptySplitError: the task has no training split.
        ConfigError: two tasks of one name.
        NonFiniteLossError: fine-tuning diverged.
    """
    if task.train is None:
        raise EmptySplitError(f"the task {task.name!r} has no training split: give one")
    everything = [task, *supported]
    names = [each.name for each in everything]
    if len(set(names)) < len(names):
        raise ConfigError(f"two tasks share a name in {names}: give each its own")
    theta_1 = finetune(base, task.head, task.train, config, device=device, on_step=on_event)
    tau = task_vector(base.visual.state_dict(), theta_1)
    validation = {each.name: (each.head, each.validation) for each in everything}
    curve = evaluate_curve(base, tau, validation, alphas, device=device, on_point=on_event)
    choice = choose_alpha(curve, names[:1], names[1:])
    test = {each.name: (each.head, each.test) for each in everything}
    ends = evaluate_curve(base, tau, test, sorted({0.0, 1.0, choice.alpha}), device=device)
    scores = {point.alpha: point.scores for point in ends}
    return PatchResult(
        task_vector=tau,
        choice=choice,
        curve=curve,
        zero_shot=scores[0.0],
        finetuned=scores[1.0],
        patched=scores[choice.alpha],
        cosine=cosine(base.visual.state_dict(), theta_1),
        relative_norm=relative_norm(tau, base.visual.state_dict()),
    )
