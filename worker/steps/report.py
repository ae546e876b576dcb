"""The report of a patch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction

from contract.environment import FinetuneSettings
from contract.evaluation import EvaluatedTask, Evaluation
from contract.report import (
    BlockUpdate,
    Certificate,
    DropBound,
    HeldOutScores,
    PatchReport,
    ReportCoefficients,
    ReportDirection,
    ReportStage,
    ReportTask,
    ReportTerm,
    ReportTransfer,
    ReportTrial,
    ReportUpdate,
    SplitImages,
    TransferScores,
    UnionScores,
    ValidationScores,
)
from contract.scores import AccuracyChange, AlphaPoint, ClassAccuracyChange, SplitScore, TaskAccuracyChange
from contract.storage import VectorStorage
from paint_core.alpha import CurvePoint, combined
from paint_core.alpha import certificate as alpha_certificate
from paint_core.alpha.guarantees import guarantee
from paint_core.alpha.rules import NO_PATCH
from paint_core.data import Task
from paint_core.evaluation import Score
from paint_core.patching import NamedTerm, PatchPlan, PatchResult, StageResult
from paint_core.patching.analysis import TaskChange, Update
from paint_core.patching.terms import HEAD_PROFILE
from paint_core.patching.trials import Trial, chosen_config
from pipeline.differences import describe_difference
from worker.steps.prepare import PatchJob

_SPLITS = ("train", "validation", "test")
_MEANINGS = (
    "Accuracies under `test` are unbiased: test images did not influence any choice.",
    "Validation accuracies at the chosen alpha are slightly optimistic, because alpha was chosen on them.",
)


def build_report(
    job: PatchJob, plan: PatchPlan, tasks: Mapping[str, Task], result: PatchResult, task_vectors: Mapping[str, str]
) -> PatchReport:
    """Return the report, without what only registration knows; `task_vectors` are hashes by key."""
    last = result.stages[-1]
    return PatchReport(
        method=plan.method,
        rule=plan.alpha.rule,
        alpha=last.search.choice.alpha,
        profile=last.search.profile,
        reason=_reason(last),
        alpha_is_last=last.search.choice.is_last,
        guarantee=_guarantee(plan, last),
        certificate=_certificate(last.search.choice.certificate),
        terms=tuple(_term(term, task_vectors, result.stages) for term in result.terms),
        stages=tuple(_stage(plan, stage, task_vectors, result.stages) for stage in result.stages),
        curve=tuple(_point(last, point) for point in last.search.curve),
        tasks=tuple(_task(job, tasks, name, result) for name in tasks if name not in job.request.transfer),
        transfer=tuple(_transfer(job, tasks[name], result) for name in job.request.transfer),
        update=_update(result.update) if result.vectors else None,
        distance_to_optimal_points=result.distance_to_optimal,
        distance_to_specialised_points=result.distance_to_specialised,
        finetune=None if plan.method == "instant" else used_settings(plan, result),
        trials=tuple(map(_trial, result.trials)),
        notes=(*_MEANINGS, *_origins(job), *result.notes),
    )


def build_evaluation(plan: PatchPlan, report: PatchReport) -> Evaluation:
    """Return the evaluation that the version keeps of a report."""
    return Evaluation(
        split="test",
        max_supported_drop=_limit(plan),
        max_mean_drop=plan.alpha.max_mean_drop,
        tasks=tuple(
            EvaluatedTask(
                dataset_id=task.dataset_id,
                name=task.name,
                role=task.role,
                zero_shot=task.test.zero_shot,
                patched=task.test.patched,
                change=_without_classes(task.change),
            )
            for task in report.tasks
        ),
    )


def used_settings(plan: PatchPlan, result: PatchResult) -> FinetuneSettings:
    """Return the settings of fine-tuning: those of the chosen trial, if there were trials."""
    return FinetuneSettings(**asdict(chosen_config(result.trials) or plan.finetune))


def _trial(trial: Trial) -> ReportTrial:
    return ReportTrial(
        number=trial.number,
        learning_rate=trial.config.learning_rate,
        iterations=trial.config.iterations,
        alpha=trial.alpha,
        patching=trial.patching,
        supported=trial.supported,
        failure=trial.failure or None,
        chosen=trial.is_chosen,
    )


def _without_classes(change: TaskAccuracyChange | None) -> AccuracyChange | None:
    return change and AccuracyChange(**change.model_dump(include=set(AccuracyChange.model_fields)))


def _limit(plan: PatchPlan) -> float | dict[str, float] | None:
    limit = plan.alpha.max_supported_drop
    return dict(limit) if isinstance(limit, Mapping) else limit


def _term(term: NamedTerm, task_vectors: Mapping[str, str], stages: Sequence[StageResult]) -> ReportTerm:
    moved_by = next((stage for stage in stages if term.key in {each.key for each in stage.moving}), None)
    return ReportTerm(
        key=term.key,
        task_vector_sha256=task_vectors[term.key],
        coefficient=term.coefficient,
        profile=term.profile,
        storage=None if moved_by is None else VectorStorage(**asdict(moved_by.storage)),
    )


def _stage(
    plan: PatchPlan, stage: StageResult, task_vectors: Mapping[str, str], stages: Sequence[StageResult]
) -> ReportStage:
    search = stage.search
    return ReportStage(
        key=stage.key,
        rule=plan.alpha.rule,
        strategy=plan.alpha.strategy,
        alpha=search.choice.alpha,
        profile=search.profile,
        reason=_reason(stage),
        alpha_is_last=search.choice.is_last,
        guarantee=_guarantee(plan, stage),
        certificate=_certificate(search.choice.certificate),
        patching=stage.patching,
        supported=stage.supported,
        directions=tuple(
            ReportDirection(key=term.key, task_vector_sha256=task_vectors[term.key], weight=term.coefficient)
            for term in stage.moving
        ),
        fixed=tuple(_term(term, task_vectors, stages) for term in stage.fixed),
        coefficients=ReportCoefficients(**asdict(stage.coefficients)) if stage.coefficients else None,
        curves={profile: tuple(_point(stage, point) for point in curve) for profile, curve in search.curves.items()},
        num_forwards=search.num_forwards,
    )


def _reason(stage: StageResult) -> str:
    """Return why this alpha; where coefficients per task add something, alpha 0 does not mean that nothing is added."""
    reason = stage.search.choice.reason
    return reason.removeprefix(f"{NO_PATCH}: ") if _adds_something(stage) else reason


def _guarantee(plan: PatchPlan, stage: StageResult) -> str:
    return guarantee(
        plan.alpha,
        stage.search.choice.certificate,
        stage.supported,
        adds_something=_adds_something(stage),
        has_folds=plan.folds is not None,
    )


def _adds_something(stage: StageResult) -> bool:
    return any(term.coefficient for term in stage.chosen)


def _certificate(certificate: alpha_certificate.Certificate | None) -> Certificate | None:
    if certificate is None:
        return None
    return Certificate(
        stance=certificate.stance,
        confidence=certificate.confidence,
        bounds=tuple(
            DropBound(
                dataset_id=bound.task,
                drop_points=bound.points,
                low_points=bound.low_points,
                high_points=bound.high_points,
                limit_points=bound.limit_points,
                certified=bound.is_certified,
            )
            for bound in certificate.bounds
        ),
        images_needed=certificate.images_needed,
    )


def _point(stage: StageResult, point: CurvePoint) -> AlphaPoint:
    return AlphaPoint(
        alpha=point.alpha,
        measured=point.measured,
        combined=combined(point, stage.patching, stage.supported),
        patching=_mean_accuracy(point, stage.patching),
        supported=_mean_accuracy(point, stage.supported),
        tasks={name: describe_score(score) for name, score in point.scores.items()},
    )


def _mean_accuracy(point: CurvePoint, names: Collection[str]) -> float | None:
    return sum(point.scores[name].accuracy for name in names) / len(names) if names else None


def _task(job: PatchJob, tasks: Mapping[str, Task], name: str, result: PatchResult) -> ReportTask:
    task, specialised = tasks[name], result.specialised.get(name)
    return ReportTask(
        dataset_id=task.name,
        name=job.datasets[task.name].name,
        role="patching" if task.name in job.request.tasks else "supported",
        num_classes=int(task.head.shape[0]),
        decoder=job.datasets[task.name].decoder,
        images=_images(job, task.name),
        validation=_validation(task.name, result),
        test=HeldOutScores(
            zero_shot=describe_score(result.zero_shot[task.name]),
            fine_tuned=describe_score(result.finetuned[task.name]),
            patched=describe_score(result.patched[task.name]),
            specialised=describe_score(specialised) if specialised else None,
        ),
        change=_change(result.changes[task.name]),
        test_on_union=_union(job, task, tasks, result),
    )


def _union(job: PatchJob, task: Task, tasks: Mapping[str, Task], result: PatchResult) -> UnionScores | None:
    if task.name not in job.request.supported:
        return None
    names = {name for each in (task.name, *job.request.tasks) for name in tasks[each].test.classnames}
    return UnionScores(
        num_classes=len(names),
        zero_shot=describe_score(result.on_union["zero_shot"][task.name]),
        patched=describe_score(result.on_union["patched"][task.name]),
    )


def _images(job: PatchJob, identifier: str) -> dict[str, SplitImages]:
    """Return how many images each split has, and which split of the upload they were, if not the one of this name."""
    row = job.datasets[identifier]
    shards, origins = row.shards or {}, row.taken_from or {}
    return {
        split: SplitImages(num_images=shards[split]["num_images"], taken_from=origins.get(split))
        for split in job.splits_of(identifier)
    }


def _origins(job: PatchJob) -> Iterator[str]:
    """Yield a sentence for each task that is evaluated on images that the upload named otherwise."""
    for identifier, row in job.datasets.items():
        judging = set(job.splits_of(identifier)) - {"train"}
        told = {split: origin for split, origin in (row.taken_from or {}).items() if split in judging}
        if told:
            places = {split: f"the {origin} split" if origin in _SPLITS else origin for split, origin in told.items()}
            parts = "; ".join(
                f"{split} images were taken from {place} of the upload" for split, place in places.items()
            )
            yield f"{row.name}: {parts}."


def _transfer(job: PatchJob, task: Task, result: PatchResult) -> ReportTransfer:
    return ReportTransfer(
        dataset_id=task.name,
        name=job.datasets[task.name].name,
        num_classes=int(task.head.shape[0]),
        decoder=job.datasets[task.name].decoder,
        images=_images(job, task.name),
        test=TransferScores(
            zero_shot=describe_score(result.zero_shot[task.name]),
            fine_tuned=describe_score(result.finetuned[task.name]),
            patched=describe_score(result.patched[task.name]),
        ),
        change=_change(result.changes[task.name]),
    )


def _validation(name: str, result: PatchResult) -> ValidationScores:
    """Return the task's scores on the curves; None if no curve passes through those weights."""
    first, last = result.stages[0].search, result.stages[-1].search
    flat = last.curves.get("flat") or last.curves.get("head") or () if len(result.stages) == 1 else ()
    per_task = result.stages[-1].coefficients is not None
    # The curve of a head term on top of others judges supported tasks in other lists than the first one did.
    is_elsewhere = len(result.stages) > 1 and last.profile == HEAD_PROFILE and name in result.stages[-1].supported
    return ValidationScores(
        zero_shot=_score_at(first.curve, 0.0, name),
        fine_tuned=_score_at(flat, 1.0, name),
        patched=None if per_task or is_elsewhere else _score_at(last.curve, last.choice.alpha, name),
    )


def _score_at(curve: Collection[CurvePoint], alpha: float, name: str) -> SplitScore | None:
    scores = next((point.scores for point in curve if point.alpha == alpha), {})
    return describe_score(scores[name]) if name in scores else None


def describe_score(score: Score) -> SplitScore:
    """Return a score as it is recorded, with its interval."""
    low, high = score.interval()
    return SplitScore(
        correct=_number(score.correct),
        total=score.total,
        accuracy=score.accuracy,
        low=low,
        high=high,
        loss=score.loss,
        ece=score.ece,
        correct_top5=_number(score.correct_top5),
        balanced_accuracy=score.balanced_accuracy,
        macro_f1=score.macro_f1,
        **({} if score.lost is None else {"lost": score.lost, "gained": score.gained}),
    )


def _number(count: int | Fraction) -> int | float:
    """Return a count as JSON has it; over the models of several folds it is a mean."""
    return count if isinstance(count, int) else float(count)


def _change(change: TaskChange) -> TaskAccuracyChange:
    return TaskAccuracyChange(
        **describe_difference(change.difference),
        classes=tuple(
            ClassAccuracyChange(
                classname=row.classname,
                total=row.total,
                before=row.before,
                after=row.after,
                before_interval=row.before_interval,
                after_interval=row.after_interval,
                **describe_difference(row.difference),
                adjusted_p_value=row.adjusted_p_value,
            )
            for row in change.classes
        ),
    )


def _update(update: Update) -> ReportUpdate:
    return ReportUpdate(
        cosine=update.cosine,
        relative_norm=update.relative_norm,
        blocks={name: BlockUpdate(**asdict(block)) for name, block in update.blocks.items()},
    )
