"""How well a base and a patch recognise each name that was patched, for versions that route by labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from contract.routing import NameAccuracy
from paint_core.evaluation import correct_answers
from paint_core.evaluation.answers import answer
from pipeline.heads import Heads
from worker.steps.validation_features import ValidationFeatures


def measure_names(
    features: ValidationFeatures, names: Sequence[str], heads: Heads | None = None
) -> dict[str, NameAccuracy]:
    """Return the accuracies of each class of the patching tasks on validation images; without images they are 0.

    A name that several tasks have is measured on the images of all of them.

    Args:
        features: Of the validation images.
        names: Ids of the patching tasks.
        heads: Head terms of the patch, if any.
    """
    totals: defaultdict[str, int] = defaultdict(int)
    right: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    base = features.base
    for identifier in names:
        task = features.tasks[identifier]
        split = task.validation
        for which, encoded in enumerate((features.before(identifier), features.after(identifier))):
            is_right = correct_answers(encoded, task.head, split.labels).cpu()
            if which and heads is not None:
                correct = partial(heads.correct, classnames=split.classnames)
                scale, bias = base.logit_scale, base.logit_bias
                is_right = answer(encoded, task.head, scale=scale, bias=bias, correct=correct).predicted == split.labels
            for label, name in enumerate(split.classnames):
                right[name][which] += int(is_right[split.labels == label].sum())
        for label, name in enumerate(split.classnames):
            totals[name] += int((split.labels == label).sum())
    return {
        name: NameAccuracy(base=before / max(1, totals[name]), patched=after / max(1, totals[name]))
        for name, (before, after) in right.items()
    }
