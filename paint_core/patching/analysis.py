"""What a patch changed: the paper's measures, as functions on scores, predictions and weights."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paint_core.alpha import CurvePoint, combined
from paint_core.errors import ConfigError
from paint_core.evaluation import Score
from paint_core.evaluation.statistics import Difference, adjusted_p_values, mcnemar, paired_difference, wilson_interval
from paint_core.weights import Term, block_cosines, block_norms, combine, cosine, mix, relative_norm


@dataclass(frozen=True)
class ClassChange:
    """What happened to the images of one class.

    Attributes:
        total: number of its images; a class without images is left out of the table.
        before: number of images that were right before.
        before_interval: of the accuracy before, Wilson at 95 %, within [0, 1].
        after_interval: of the accuracy after.
        difference: of the accuracies, after minus before, on the same images.
        adjusted_p_value: the difference's p-value, corrected for the number of classes; among hundreds of classes some
            p-values and intervals look like a change by chance alone.
    """

    classname: str
    total: int
    before: int
    after: int
    before_interval: tuple[float, float]
    after_interval: tuple[float, float]
    difference: Difference
    adjusted_p_value: float


@dataclass(frozen=True)
class TaskChange:
    """What a patch did to one task.

    Attributes:
        difference: of the accuracies, patched minus zero-shot, on the same images; a negative one on a supported task
            is forgetting.
        classes: the same for each class, the most significant changes first.
    """

    difference: Difference
    classes: tuple[ClassChange, ...]


@dataclass(frozen=True)
class BlockUpdate:
    """How far one block of the image tower moved: cosine and ||tau|| / ||theta_0|| within the block."""

    cosine: float
    relative_norm: float


@dataclass(frozen=True)
class Update:
    """How far the weights moved.

    Attributes:
        cosine: between theta_0 and the moved weights.
        relative_norm: ||tau|| / ||theta_0||; distinguishes updates better than the cosine, which is always near 1.
        blocks: the same for each block (see `profiles.block_of`), in the order of depth.
    """

    cosine: float
    relative_norm: float
    blocks: Mapping[str, BlockUpdate]


def class_changes(labels: Tensor, before: Tensor, after: Tensor, classnames: Sequence[str]) -> tuple[ClassChange, ...]:
    """The table of improvements and losses by class.

    Args:
        labels: int64 [N], indices into `classnames`.
        before: int64 [N], predictions of the weights before.
        after: int64 [N], predictions of the weights after, on the same images.

    Returns:
        One row per class that has images, by increasing corrected p-value; ties in the order of `classnames`.
    """
    right_before, right_after = before == labels, after == labels
    counted = zip(
        *(
            torch.bincount(labels[chosen], minlength=len(classnames)).tolist()
            for chosen in (slice(None), right_before, right_after, right_after & ~right_before)
        ),
        strict=True,
    )
    rows = [(name, counts) for name, counts in zip(classnames, counted, strict=True) if counts[0]]
    differences = [_difference(*counts) for _, counts in rows]
    adjusted = adjusted_p_values([each.p_value for each in differences])
    table = [
        ClassChange(
            classname=name,
            total=total,
            before=correct,
            after=correct_after,
            before_interval=wilson_interval(correct, total),
            after_interval=wilson_interval(correct_after, total),
            difference=difference,
            adjusted_p_value=p_value,
        )
        for (name, (total, correct, correct_after, _)), difference, p_value in zip(
            rows, differences, adjusted, strict=True
        )
    ]
    return tuple(sorted(table, key=lambda row: (row.adjusted_p_value, row.difference.p_value)))


def task_change(labels: Tensor, before: Tensor, after: Tensor, classnames: Sequence[str]) -> TaskChange:
    """What a patch did to a task, as a whole and class by class."""
    return TaskChange(mcnemar(before == labels, after == labels), class_changes(labels, before, after, classnames))


def distance_to_optimal(curve: Sequence[CurvePoint], patching: Collection[str], supported: Collection[str]) -> float:
    """The accuracy distance to optimal, in points (PAINT, section 4): what one common alpha costs.

    The mean of the best supported and the best patching accuracy, each at its own alpha, minus the best combined one.
    Predicted points do not count: their error may be as large as the distance.

    Raises:
        ConfigError: an empty curve or no patching task.
    """
    if not curve:
        raise ConfigError("the alpha curve is empty: evaluate at least one alpha")
    curve = [point for point in curve if point.measured]
    if not curve:
        raise ConfigError("the alpha curve is only predicted: evaluate at least one alpha")
    groups = [names for names in (patching, supported) if names]
    apart = sum(max(combined(point, names, ()) for point in curve) for names in groups) / len(groups)
    return 100 * (apart - max(combined(point, patching, supported) for point in curve))


def distance_to_specialised(patched: Mapping[str, Score], specialised: Mapping[str, Score]) -> float:
    """The mean accuracy by which one specialised model per task exceeds one patched model, in points.

    Raises:
        ConfigError: no specialised model.
    """
    if not specialised:
        raise ConfigError("there is no specialised model to compare with: fine-tune one per task")
    gaps = [score.accuracy - patched[name].accuracy for name, score in specialised.items()]
    return 100 * sum(gaps) / len(gaps)


def measure_update(theta_0: Mapping[str, Tensor], terms: Sequence[Term]) -> Update:
    """How far the terms move the weights, in total and block by block (PAINT, section 4), computed in float64."""
    tau, moved = combine(terms), mix(theta_0, terms)
    cosines, norms = block_cosines(theta_0, moved), block_norms(tau, theta_0)
    blocks = {label: BlockUpdate(cosines[label], norms[label]) for label in cosines}
    return Update(cosine(theta_0, moved), relative_norm(tau, theta_0), blocks)


def _difference(total: int, before: int, after: int, gained: int) -> Difference:
    return paired_difference(gained, gained - (after - before), total)
