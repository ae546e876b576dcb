"""Auto: an instant patch, a fine-tuning, and both together; the best by the rule becomes the version."""

from __future__ import annotations

from collections.abc import Mapping

from contract.report import ReportCandidate
from paint_core.alpha import combined
from paint_core.data import Task
from paint_core.instant import save_head_term
from paint_core.models import BaseModel
from paint_core.patching import AutoResult, PatchPlan
from paint_core.patching.auto import Candidate
from paint_core.patching.instant import HEAD_KEY
from worker.job_context import JobContext
from worker.steps.checkpoint import PatchCheckpoint
from worker.steps.instant import describe
from worker.steps.journal import JobJournal
from worker.steps.prepare import PatchJob
from worker.steps.register import register


def register_best(
    context: JobContext,
    job: PatchJob,
    base: BaseModel,
    tasks: Mapping[str, Task],
    plan: PatchPlan,
    result: AutoResult,
    journal: JobJournal,
    checkpoint: PatchCheckpoint,
) -> None:
    """Create the version and report of a patch of method `auto`."""
    if result.kept.way != "finetuned":
        assert result.instant is not None  # which is what was kept
        sha256 = context.blobs.put_bytes(save_head_term(result.instant.term))
        checkpoint.save(task_vectors=(checkpoint.get("task_vectors") or {}) | {HEAD_KEY: sha256})
    instant = None if result.instant is None else describe(result.instant)
    if instant is not None and result.kept.way != "instant":
        instant = instant.model_copy(update={"advice": None})  # which would be to fine-tune
    candidates = tuple(_describe(each, result, job) for each in result.candidates)
    register(context, job, base, tasks, plan, result.patch, journal, checkpoint, instant, candidates)


def _describe(candidate: Candidate, result: AutoResult, job: PatchJob) -> ReportCandidate:
    point, request = candidate.point, job.request
    return ReportCandidate(
        way=candidate.way,
        alpha=candidate.alpha,
        weights_alpha=candidate.weights_alpha,
        value=float(candidate.value),
        patching=combined(point, request.tasks, ()),
        supported=combined(point, request.supported, ()) if request.supported else None,
        certified=candidate.is_certified,
        kept=candidate is result.kept,
    )
