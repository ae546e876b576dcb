"""From the answers to labelled images to what is recorded of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from contract.evaluations import MAX_CELLS, ClassScore, ConfusionCell, Measurement
from paint_core.evaluation import Score
from paint_core.evaluation.answers import Answers, ClassCounts, confusion, count_classes, macro_f1
from paint_core.evaluation.statistics import wilson_interval
from registry.label_sets import label_set_id
from registry.predictions import write_predictions
from registry.shards import read_names
from registry.tables import DatasetRow
from worker.job_context import JobContext
from worker.steps.report import describe_score


@dataclass(frozen=True)
class Judged:
    """The images that models are judged on, and the labels that they choose from.

    Attributes:
        dataset: The images' data set.
        split: Which of its images.
        labels: C names.
        templates: Prompts with a place for a label.
        targets: int64 [N], indices of `labels`; None: the images have no labels.
        is_own_head: Whether labels and templates are the data set's own.
    """

    dataset: DatasetRow
    split: str
    labels: Sequence[str]
    templates: Sequence[str]
    targets: Tensor | None
    is_own_head: bool = True

    @property
    def head_id(self) -> str:
        """Id of the head of these labels and templates."""
        return label_set_id(self.labels, self.templates)

    @property
    def shard(self) -> dict[str, Any]:
        """The hash and number of the images."""
        return dict((self.dataset.shards or {})[self.split])


def store_answers(
    context: JobContext, judged: Judged, weights_fingerprint: str, answers: Answers, score: Score | None
) -> dict[str, Any]:
    """Store the answers of some weights as a blob, and return the arguments of `Measurements.add` but the owner.

    Args:
        score: Of the answers; None if the images have no labels.
    """
    targets, predicted = judged.targets, answers.predicted
    columns: dict[str, Sequence[object]] = {
        "image": read_names(context.blobs.fetch(judged.shard["sha256"])),
        "label": [None] * len(predicted) if targets is None else targets.tolist(),
        "predicted": predicted.tolist(),
        "probability": answers.probability.tolist(),
        "margin": answers.margin.tolist(),
    }
    with context.scratch() as scratch:
        path = scratch / "predictions.parquet"
        num_bytes = write_predictions(path, judged.labels, columns)
        sha256 = context.blobs.put_file(path)
    return {
        "weights_fingerprint": weights_fingerprint,
        "dataset_id": judged.dataset.id,
        "split": judged.split,
        "head_id": judged.head_id,
        "is_own_head": judged.is_own_head,
        "num_images": len(predicted),
        "result": None if score is None or targets is None else describe(score, targets, predicted, judged.labels),
        "predictions_sha256": sha256,
        "num_bytes": num_bytes,
    }


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
