"""Joint patching: the data of all tasks merged into one, patched once (PAINT, arXiv 2208.05592, section 2).

The best of the three ways to patch several tasks, if all their data is available at the same time.
"""

from collections.abc import Sequence
from dataclasses import replace

from paint_core.config.finetune import FinetuneConfig
from paint_core.data import Task
from paint_core.data.sampling import merge_training_sets
from paint_core.patching.context import PatchContext
from paint_core.patching.one_vector import patch_with_one_vector
from paint_core.patching.outcome import Outcome
from paint_core.weights import TaskVector


def patch_joint(context: PatchContext) -> Outcome:
    """The patch of all tasks in one term.

    It is trained with the union of the tasks' heads and evaluated, as always, with each task's own.
    """

    def train(key: str, tasks: Sequence[Task], config: FinetuneConfig | None = None) -> TaskVector:
        head, images = merge_training_sets(tasks, context.plan.sampling, context.plan.finetune.seed)
        held_out = None
        if context.plan.finetune.patience is not None:
            _, held_out = merge_training_sets([replace(task, train=task.validation) for task in tasks])
        return context.train(key, head, images, held_out, config=config)

    return patch_with_one_vector(context, "joint", train)
