"""Evaluate: measure versions on the images of one split, which are decoded once, and compare them image by image.

Each version's measurement is committed as soon as it is there, so a later attempt continues after it, and so does the
next evaluation of the same weights.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn

from contract.datasets import DatasetKind
from contract.evaluations import EvaluatedVersion, EvaluationOptions, EvaluationReport, Measurement, VersionComparison
from contract.lineage import Lineage
from contract.scores import AccuracyChange
from paint_core.data import LabelledImages
from paint_core.evaluation import Score, encode, score_features
from paint_core.evaluation.answers import Answers, answer
from paint_core.evaluation.statistics import paired_difference
from paint_core.models import BaseModel, build_head
from paint_core.weights import fingerprint
from pipeline.differences import describe_difference
from pipeline.heads import Heads, answers_fingerprint, load_heads
from pipeline.towers import mix_tower
from pipeline.workload import DECODE_UNITS
from registry.datasets import Datasets
from registry.evaluations import Evaluations
from registry.jobs import Jobs
from registry.label_sets import label_set_id
from registry.measurements import Measurements, measurement_id
from registry.predictions import read_predictions
from registry.tables import DatasetRow, EvaluationRow
from registry.versions import TermSpec, Versions
from worker.job_context import JobContext
from worker.progress import ProgressMeter
from worker.steps.measurement import Judged, store_answers
from worker.steps.prepare import decode_split, find_device, load_checked_base, templates_of

_SLICE_IMAGES = 1024
"""Images between two reports of progress."""

_FEW_IMAGES = 100


@dataclass(frozen=True)
class Subject:
    """A version to evaluate; its fingerprint is None if an older release registered it."""

    version_id: int
    terms: Sequence[TermSpec]
    weights_fingerprint: str | None
    trained_on: frozenset[str]


@dataclass
class EvaluationJob:
    """What the database says about an evaluation."""

    row: EvaluationRow
    request: EvaluationOptions
    base_ref: str
    dataset: DatasetRow
    subjects: Sequence[Subject]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def is_labelled(self) -> bool:
        """Whether the images have labels."""
        return self.dataset.kind != DatasetKind.POOL

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time that the context takes to the stage's."""
        start = time.monotonic()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - start, 3)


def evaluate(context: JobContext) -> None:
    """Measure every version and write the evaluation's report, or raise why that is impossible."""
    job = load_evaluation(context)
    base = load_checked_base(job.base_ref, job.row.base_fingerprint, find_device(context.settings.device))
    judge = Judge(context, job, base)
    evaluated = [judge.measure(subject) for subject in job.subjects]
    comparisons = tuple(judge.compare(each, evaluated[0]) for each in evaluated[1:])
    report = EvaluationReport(
        labels=judge.labels,
        templates=judge.templates,
        versions=tuple(evaluated),
        comparisons=comparisons,
        warnings=tuple(_warn_of(job, judge.num_images)),
        timings_seconds=job.seconds,
    )
    with context.database.write() as session:
        Jobs(session).succeed(context.lease)
        Evaluations(session).complete(job.row.id, report)


def load_evaluation(context: JobContext) -> EvaluationJob:
    """Return what the database says about the evaluation."""
    with context.database.read() as session:
        row, versions = Evaluations(session).get(context.subject_id), Versions(session)
        terms = versions.terms_of(row.version_ids)
        found = {version_id: versions.get(version_id) for version_id in row.version_ids}
        return EvaluationJob(
            row=row,
            request=EvaluationOptions.model_validate(row.request),
            base_ref=versions.base(row.base_fingerprint).ref,
            dataset=Datasets(session).get(row.dataset_id),
            subjects=[
                Subject(each, terms[each], version.weights_fingerprint, _trained_on(version.lineage))
                for each, version in found.items()
            ],
        )


class Judge:
    """Measures versions on the images of one split; decodes them when the first version needs them.

    Args:
        context: The attempt.
        job: The evaluation.
        base: The base model of its versions, on the device.
    """

    def __init__(self, context: JobContext, job: EvaluationJob, base: BaseModel) -> None:
        self._context, self._job, self._base = context, job, base
        dataset = job.dataset
        self.labels = tuple(job.request.labels or dataset.classnames or ())
        self.templates = tuple(job.request.templates or templates_of(dataset, base))
        self.num_images = int((dataset.shards or {})[job.row.split]["num_images"])
        units = self.num_images * (DECODE_UNITS + len(job.subjects))
        self._meter = ProgressMeter(context.channel.send, units)

    def measure(self, subject: Subject) -> EvaluatedVersion:
        """Return the version's result, from the database if its weights were measured before."""
        known = None if subject.weights_fingerprint is None else self._find(subject.weights_fingerprint)
        if known is not None:
            self._meter.skip(self.num_images)
            return self._evaluated(subject, *known, was_known=True)
        tower = mix_tower(self._base, subject.terms, self._context.blobs)
        heads = load_heads(self._base, subject.terms, self._context.blobs)
        weights = answers_fingerprint(fingerprint(tower.state_dict()), subject.terms)
        images, judged = self._images, self._judged
        self._meter.enter("evaluate")
        with self._job.timed("evaluate"):
            answers, score = self._ask(tower, heads, images.images, judged.targets)
        stored = store_answers(self._context, judged, weights, answers, score)
        with self._context.database.write() as session:
            Measurements(session).add(**stored, owner=self._job.row.owner)
            if subject.weights_fingerprint is None:  # an older release left it out
                Versions(session).get(subject.version_id).weights_fingerprint = weights
        return self._evaluated(subject, weights, stored["result"], was_known=False)

    def compare(self, evaluated: EvaluatedVersion, reference: EvaluatedVersion) -> VersionComparison:
        """Return how a version's answers differ from those of the reference."""
        before, after = (self._predictions(each.measurement_id) for each in (reference, evaluated))
        changed = int(np.count_nonzero(before["predicted"] != after["predicted"]))
        plain = VersionComparison(version_id=evaluated.version_id, against=reference.version_id, changed=changed)
        if not self._job.is_labelled:
            return plain
        was_right, is_right = (each["predicted"] == each["label"] for each in (before, after))
        lost, gained = (int(np.count_nonzero(each)) for each in (was_right & ~is_right, is_right & ~was_right))
        difference = paired_difference(gained, lost, len(is_right))
        change = AccuracyChange(**describe_difference(difference))
        return plain.model_copy(update={"lost": lost, "gained": gained, "change": change})

    @cached_property
    def _images(self) -> LabelledImages:
        self._meter.enter("decode")

        def decoded(num_images: int) -> None:
            self._meter.advance(DECODE_UNITS * num_images)

        with self._job.timed("decode"):
            return decode_split(self._context, self._job.dataset, self._job.row.split, self._base, decoded)

    @cached_property
    def _judged(self) -> Judged:
        job, targets = self._job, None
        if job.is_labelled:
            places = {label: place for place, label in enumerate(self.labels)}
            targets = torch.tensor([places[name] for name in self._images.classnames])[self._images.labels]
        own = label_set_id(job.dataset.classnames or (), templates_of(job.dataset, self._base))
        is_own = own == label_set_id(self.labels, self.templates)
        return Judged(job.dataset, job.row.split, self.labels, self.templates, targets, is_own)

    @cached_property
    def _head(self) -> Tensor:
        return build_head(self._base, self.labels, self.templates)

    def _ask(
        self, tower: nn.Module, heads: Heads, images: Tensor, targets: Tensor | None
    ) -> tuple[Answers, Score | None]:
        base, slices = self._base, []
        for start in range(0, len(images), _SLICE_IMAGES):
            part = images[start : start + _SLICE_IMAGES]
            slices.append(encode(tower, part, base.preprocess, device=base.device))
            self._meter.advance(len(part))
        features, head, scale, bias = torch.cat(slices), self._head, base.logit_scale, base.logit_bias
        correct = partial(heads.correct, classnames=self.labels) if heads.concern(self.labels) else None
        score = None
        if targets is not None:
            score = score_features(features, head, targets, scale=scale, bias=bias, correct=correct)
        return answer(features, head, scale=scale, bias=bias, correct=correct), score

    def _find(self, weights: str) -> tuple[str, Measurement | None] | None:
        identifier = self._measurement_id(weights)
        with self._context.database.read() as session:
            row = Measurements(session).find([identifier]).get(identifier)
            if row is None:
                return None
            return weights, None if row.result is None else Measurement.of_stored(row.result)

    def _evaluated(
        self, subject: Subject, weights: str, result: Measurement | None, *, was_known: bool
    ) -> EvaluatedVersion:
        return EvaluatedVersion(
            version_id=subject.version_id,
            weights_fingerprint=weights,
            measurement_id=self._measurement_id(weights),
            num_images=self.num_images,
            measurement=result,
            was_known=was_known,
        )

    def _measurement_id(self, weights: str) -> str:
        head_id = label_set_id(self.labels, self.templates)
        return measurement_id(weights, self._job.row.dataset_id, self._job.row.split, head_id)

    def _predictions(self, identifier: str) -> Mapping[str, np.ndarray[tuple[int], np.dtype[np.int32]]]:
        with self._context.database.read() as session:
            sha256 = Measurements(session).find([identifier])[identifier].predictions_sha256
        table = read_predictions(self._context.blobs.fetch(sha256)).table
        return {name: table[name].fill_null(-1).to_numpy() for name in ("label", "predicted")}


def _trained_on(lineage: dict[str, object]) -> frozenset[str]:
    return frozenset(Lineage.of_stored(lineage).datasets)


def _warn_of(job: EvaluationJob, num_images: int) -> Iterator[str]:
    if num_images < _FEW_IMAGES and job.is_labelled:
        yield f"With {num_images} images the accuracies are uncertain: evaluate on at least {_FEW_IMAGES} images."
    seen = [str(each.version_id) for each in job.subjects if job.row.dataset_id in each.trained_on]
    if seen and job.row.split != "test":
        versions = f"version {seen[0]}" if len(seen) == 1 else f"versions {', '.join(seen)}"
        yield f"Images of this split took part in the patch of {versions}: use split `test` to judge it."
