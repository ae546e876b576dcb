"""Choosing alpha on small data: every labelled image is validation once (k-fold, Stone 1974).

The counts of all folds are summed at each alpha, so the choice rests on all images instead of on a tenth of them. The
images of a supported task are the same in every fold: theirs are means over the folds' models.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from paint_core.alpha.curve import CurvePoint
from paint_core.data import LabelledImages, Task
from paint_core.errors import ConfigError, EmptySplitError
from paint_core.evaluation import Metric, Score
from paint_core.runtime.randomness import generator


def stratified_folds(labels: Tensor, folds: int, seed: int = 0) -> tuple[Tensor, ...]:
    """The positions of each fold; every class is spread as evenly as possible.

    Args:
        labels: int64 [N].
        folds: k, 2 <= k <= N.

    Returns:
        k disjoint, increasing int64 tensors that together contain 0..N-1; their sizes differ by at most 1, and so
        do the counts of each class.

    Raises:
        ConfigError: k is below 2 or above N.
    """
    if not 2 <= folds <= len(labels):
        raise ConfigError(f"{len(labels)} images cannot make {folds} folds: choose 2..{len(labels)}, or add images")
    shuffled = torch.randperm(len(labels), generator=generator("folds", seed, folds))
    # Dealt like cards, class after class without a break: even sizes and even classes at once.
    dealt = shuffled[torch.sort(labels[shuffled], stable=True).indices]
    return tuple(dealt[fold::folds].sort().values for fold in range(folds))


def labelled_images(task: Task) -> LabelledImages:
    """Training and validation images of a task as one split: copies, training images first.

    Raises:
        EmptySplitError: the task has no training split.
    """
    if task.train is None:
        raise EmptySplitError(f"the task {task.name!r} has no training split: give one")
    parts = (task.train, task.validation)
    images = torch.cat([part.images for part in parts])
    return LabelledImages(images, torch.cat([part.labels for part in parts]), task.train.classnames)


def fold_tasks(task: Task, folds: int, seed: int = 0) -> tuple[Task, ...]:
    """The task once per fold: validation is the fold, training is the rest of train and validation; test stays."""
    everything = labelled_images(task)
    parts = stratified_folds(everything.labels, folds, seed)
    return tuple(
        replace(task, train=everything.subset(torch.cat(parts[:fold] + parts[fold + 1 :])), validation=held_out)
        for fold, held_out in enumerate(map(everything.subset, parts))
    )


def sum_scores(scores: Sequence[Score]) -> Score:
    """The score over the images of all scores together.

    Counts are added and the loss is the mean over all images. The calibration error is the mean weighted by images, an
    upper bound of the true one: errors of opposite sign in two folds would cancel.
    """
    total = sum(score.total for score in scores)
    return Score(
        correct=sum(score.correct for score in scores),
        total=total,
        loss=sum(score.loss * score.total for score in scores) / total,
        ece=sum(score.ece * score.total for score in scores) / total,
        correct_top5=sum(score.correct_top5 for score in scores),
        balanced_accuracy=_mean(scores, "balanced_accuracy"),
        macro_f1=_mean(scores, "macro_f1"),
    )


def mean_scores(scores: Sequence[Score]) -> Score:
    """The mean score of several models on the same images, which count once in `total`.

    Returns:
        The mean; `correct` is a fraction if the models disagree.

    Raises:
        ConfigError: the scores are of different numbers of images.
    """
    count, totals = len(scores), {score.total for score in scores}
    if len(totals) != 1:
        raise ConfigError(
            f"scores of {sorted(totals)} images cannot be averaged: evaluate all models on the same images"
        )
    return Score(
        correct=_plain(Fraction(sum(score.correct for score in scores)) / count),
        total=totals.pop(),
        loss=sum(score.loss for score in scores) / count,
        ece=sum(score.ece for score in scores) / count,
        correct_top5=_plain(Fraction(sum(score.correct_top5 for score in scores)) / count),
        balanced_accuracy=_mean(scores, "balanced_accuracy"),
        macro_f1=_mean(scores, "macro_f1"),
    )


def _mean(scores: Sequence[Score], metric: Metric) -> float | None:
    """The mean over scores, weighted by images, of what cannot be added up; None where one of them is not known."""
    known = [(score.total, value) for score in scores if (value := getattr(score, metric)) is not None]
    if len(known) < len(scores):
        return None
    return math.fsum(total * value for total, value in known) / sum(total for total, _ in known)


def sum_curves(curves: Sequence[Sequence[CurvePoint]], repeated: Collection[str] = ()) -> list[CurvePoint]:
    """One curve with the scores over all curves together, at the alphas that all of them have.

    Args:
        repeated: names of the tasks that all curves evaluate on the same images: their scores are means, not sums.

    Returns:
        Points by increasing alpha; one counts as measured if it is in every curve.
    """
    by_alpha = [{point.alpha: point for point in curve} for curve in curves]
    common = sorted(set.intersection(*(set(points) for points in by_alpha)))
    return [_sum_points([points[alpha] for points in by_alpha], repeated) for alpha in common]


def _plain(number: Fraction) -> int | Fraction:
    return int(number) if number.denominator == 1 else number


def _sum_points(points: Sequence[CurvePoint], repeated: Collection[str]) -> CurvePoint:
    scores = {
        name: (mean_scores if name in repeated else sum_scores)([point.scores[name] for point in points])
        for name in points[0].scores
    }
    measured = all(point.measured for point in points)
    return CurvePoint(points[0].alpha, scores, measured=measured, profile=points[0].profile)
