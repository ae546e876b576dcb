"""Instant: fit a head term, choose its coefficient, register the version. An interrupted attempt starts over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from contract.report import ReportInstant
from paint_core.data import Task
from paint_core.evaluation.feature_cache import FolderFeatureCache
from paint_core.instant import KernelFit, load_head_term, save_head_term
from paint_core.models import BaseModel
from paint_core.patching import InstantResult, NamedTerm, PatchPlan, PatchResult, run_instant
from paint_core.patching.analysis import measure_update
from paint_core.patching.head_fits import AnyTerm
from paint_core.patching.instant import HEAD_KEY
from paint_core.weights import TaskVector, Term, load_task_vector
from pipeline.towers import mix_tower
from registry.errors import RequestRefusedError
from worker.job_context import JobContext
from worker.progress import ProgressMeter
from worker.steps.checkpoint import PatchCheckpoint
from worker.steps.journal import JobJournal
from worker.steps.prepare import PatchJob
from worker.steps.register import register
from worker.steps.reporter import Reporter
from worker.steps.workload import Workload

_POOR = 0.6
"""Leave-one-out accuracy below which the tower's features do not tell the classes apart."""


def patch_instantly(
    context: JobContext,
    job: PatchJob,
    base: BaseModel,
    tasks: Mapping[str, Task],
    plan: PatchPlan,
    checkpoint: PatchCheckpoint,
    meter: ProgressMeter,
) -> None:
    """Create the version and report of an instant patch."""
    below = _load_below(context, job, base)
    workload = Workload(meter, plan.finetune)
    journal = JobJournal(context, checkpoint, base, on_skipped=workload.skip, final_loss=lambda: None)
    result = run_instant(
        base if below is None else below.base,
        [tasks[identifier] for identifier in job.request.tasks],
        [tasks[identifier] for identifier in job.request.supported],
        plan,
        device=base.device,
        journal=journal,
        on_event=Reporter(context, workload, 0),
        transfer=[tasks[identifier] for identifier in job.request.transfer],
        feature_cache=FolderFeatureCache(context.settings.feature_cache_dir, context.settings.feature_cache_bytes),
        start=_load_start(context, job),
        known=job.known,
        origin=None if below is None else base,
    )
    vectors = {} if below is None else below.hashes
    with checkpoint.stage("register"):
        sha256 = context.blobs.put_bytes(save_head_term(result.term))
        checkpoint.save(task_vectors=vectors | {HEAD_KEY: sha256})
        patch = result.patch if below is None else below.under(result.patch)
        register(context, job, base, tasks, plan, patch, journal, checkpoint, describe(result))


@dataclass(frozen=True, eq=False)
class _Below:
    """The weights of the version that an instant patch is put on.

    Attributes:
        base: The base with these weights.
        origin: The base.
        terms: What they are made of, by names that the report uses.
        vectors: The task vectors of these terms.
        hashes: Where they are stored.
    """

    base: BaseModel
    origin: BaseModel
    terms: tuple[NamedTerm, ...]
    vectors: Mapping[str, TaskVector]
    hashes: dict[str, str]

    def under(self, patch: PatchResult) -> PatchResult:
        """Return the patch with these terms below its own."""
        (stage,) = patch.stages
        mixed = [Term(self.vectors[term.key], term.coefficient, term.profile) for term in self.terms]
        return replace(
            patch,
            vectors=self.vectors,
            terms=(*self.terms, *patch.terms),
            stages=(replace(stage, fixed=self.terms),),
            update=measure_update(self.origin.visual.state_dict(), mixed),
        )


def _load_below(context: JobContext, job: PatchJob, base: BaseModel) -> _Below | None:
    if not job.below:
        return None
    keys = [f"version {job.request.version} term {place}" for place, _ in enumerate(job.below, 1)]
    hashes = {key: term.task_vector_sha256 for key, term in zip(keys, job.below, strict=True)}
    return _Below(
        base.with_tower(mix_tower(base, job.below, context.blobs)),
        base,
        tuple(NamedTerm(key, term.coefficient, term.profile) for key, term in zip(keys, job.below, strict=True)),
        {key: load_task_vector(context.blobs.fetch(sha256), base) for key, sha256 in hashes.items()},
        hashes,
    )


def _load_start(context: JobContext, job: PatchJob) -> AnyTerm | None:
    """Return the term that is continued, without the classes that are forgotten."""
    if job.start_sha256 is None:
        return None
    term = load_head_term(context.blobs.fetch(job.start_sha256))
    unknown = sorted(set(job.request.forget) - set(term.names))
    if unknown:
        raise RequestRefusedError(
            "class_not_patched",
            f"Patch {job.request.extends} has no class {unknown[0]!r}.",
            "Name classes of its head term, which are those of its tasks.",
        )
    return term.without_classes(job.request.forget) if job.request.forget else term


def describe(result: InstantResult) -> ReportInstant:
    """Return what the report says of the fit."""
    accuracy, kernel = result.fit.accuracy, result.fit if isinstance(result.fit, KernelFit) else None
    fit, advice = "good", None
    if accuracy is None and kernel is None:
        fit = "unknown"  # no new image: only classes were left out
    elif accuracy is None:
        fit, advice = "unknown", "Add images: with one image a class nothing tells how well the patch does."
    elif accuracy < _POOR:
        fit = "poor"
        advice = (
            f"By leave-one-out {100 * accuracy:.0f} % of the images are classified correctly: the image tower has no "
            "features for this task. Use method single, which changes the weights."
        )
    return ReportInstant.model_validate(
        {
            "num_images": result.num_images,
            "num_used": result.term.num_images,
            "leave_one_out_accuracy": accuracy,
            "keep": "features" if kernel else "statistics",
            "gamma": kernel and kernel.gamma,
            "ridge": kernel and kernel.ridge,
            "features_fit": fit,
            "advice": advice,
        }
    )
