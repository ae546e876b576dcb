"""Patching one task: fine-tune, measure tau, choose alpha (PAINT, arXiv 2208.05592, section 2)."""

from collections.abc import Sequence

from paint_core.config.finetune import FinetuneConfig
from paint_core.data import Task
from paint_core.patching.context import PatchContext
from paint_core.patching.one_vector import patch_with_one_vector
from paint_core.patching.outcome import Outcome
from paint_core.weights import TaskVector


def patch_single(context: PatchContext) -> Outcome:
    """The patch of the context's only task: one term, with alpha as its coefficient."""
    name = context.tasks[0].name

    def train(key: str, tasks: Sequence[Task], config: FinetuneConfig | None = None) -> TaskVector:
        (task,) = tasks
        assert task.train is not None  # the plan has checked it
        return context.train(key, task.head, task.train, task.validation, config=config)

    return patch_with_one_vector(context, f"task:{name}", train)
