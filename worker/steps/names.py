"""How well a base and a patch recognise each name that was patched, for versions that route by labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from torch import nn

from contract.routing import NameAccuracy
from paint_core.data import Task
from paint_core.evaluation import correct_answers, encode
from paint_core.evaluation.answers import answer
from paint_core.models import BaseModel
from pipeline.heads import Heads


def measure_names(
    visual: nn.Module, base: BaseModel, tasks: Sequence[Task], heads: Heads | None = None
) -> dict[str, NameAccuracy]:
    """Return the accuracies of each class of the patching tasks on validation images; without images they are 0.

    A name that several tasks have is measured on the images of all of them.

    Args:
        visual: The patched image tower, on the base's device.
        base: Its base.
        tasks: The patching tasks.
        heads: Head terms of the patch, if any.
    """
    totals: defaultdict[str, int] = defaultdict(int)
    right: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for task in tasks:
        split = task.validation
        for which, tower in enumerate((base.visual, visual)):
            features = encode(tower, split.images, base.preprocess, device=base.device)
            is_right = correct_answers(features, task.head, split.labels).cpu()
            if which and heads is not None:
                correct = partial(heads.correct, classnames=split.classnames)
                scale, bias = base.logit_scale, base.logit_bias
                is_right = (
                    answer(features, task.head, scale=scale, bias=bias, correct=correct).predicted == split.labels
                )
            for label, name in enumerate(split.classnames):
                right[name][which] += int(is_right[split.labels == label].sum())
        for label, name in enumerate(split.classnames):
            totals[name] += int((split.labels == label).sum())
    return {
        name: NameAccuracy(base=before / max(1, totals[name]), patched=after / max(1, totals[name]))
        for name, (before, after) in right.items()
    }
