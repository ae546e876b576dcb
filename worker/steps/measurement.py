"""From the answers to labelled images to what is recorded of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from contract.evaluations import MAX_CELLS, ClassScore, ConfusionCell, Measurement
from paint_core.evaluation import Score
from paint_core.evaluation.answers import ClassCounts, confusion, count_classes, macro_f1
from paint_core.evaluation.statistics import wilson_interval
from worker.steps.report import describe_score


def describe(score: Score, labels: Tensor, predicted: Tensor, names: Sequence[str]) -> Measurement:
    """Return what is recorded of the answers to labelled images.

    Args:
        labels: int64 [N], indices of `names`.
        predicted: int64 [N], indices of `names`.
    """
    counts = count_classes(labels, predicted, len(names))
    return Measurement(
        score=describe_score(score),
        macro_f1=macro_f1(counts),
        classes=tuple(_class_score(name, each) for name, each in zip(names, counts, strict=True)),
        confusion=tuple(_cells(labels, predicted, names)),
    )


def _class_score(name: str, counts: ClassCounts) -> ClassScore:
    low, high = wilson_interval(counts.correct, counts.total) if counts.total else (None, None)
    return ClassScore(
        classname=name,
        total=counts.total,
        correct=counts.correct,
        predicted=counts.predicted,
        low=low,
        high=high,
        f1=counts.f1,
    )


def _cells(labels: Tensor, predicted: Tensor, names: Sequence[str]) -> Iterator[ConfusionCell]:
    for label, answer, count in confusion(labels, predicted)[:MAX_CELLS]:
        yield ConfusionCell(classname=names[label], predicted=names[answer], count=count)
