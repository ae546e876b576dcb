"""Patch: prepare → finetune → select → evaluate → register, resumable from the job's checkpoint at every point.

A parallel patch is fine-tuned by child jobs (`worker.steps.finetune`). The parent starts once they have ended, finds
their task vectors in its journal, and mixes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from paint_core.evaluation.feature_cache import FolderFeatureCache
from paint_core.patching import run_auto, run_patch
from pipeline.plans import plan_patch
from pipeline.workload import DECODE_UNITS, count_points, count_steps, total_units
from registry.jobs import Jobs
from worker.job_context import JobContext
from worker.progress import ProgressMeter
from worker.steps.auto import register_best
from worker.steps.checkpoint import PatchCheckpoint
from worker.steps.instant import patch_instantly
from worker.steps.journal import JobJournal
from worker.steps.prepare import (
    find_device,
    load_anchors,
    load_checked_base,
    load_job,
    load_tasks,
)
from worker.steps.register import register
from worker.steps.reporter import Reporter
from worker.steps.workload import Workload

Result = TypeVar("Result")


def patch(context: JobContext) -> None:
    """Create the patch's version and report, or raise why that is impossible."""
    job = load_job(context)
    base = load_checked_base(job.base_ref, job.row.base_fingerprint, find_device(context.settings.device))
    plan = plan_patch(base, job.request)
    units = total_units(job.num_images, job.num_anchors, len(job.request.tasks), plan)
    meter = ProgressMeter(context.channel.send, units)
    checkpoint = PatchCheckpoint(context, meter)
    adopt_children(context, checkpoint)
    with checkpoint.stage("prepare"):

        def decoded(num_images: int) -> None:
            meter.advance(DECODE_UNITS * num_images)

        tasks = load_tasks(context, job, base, decoded)
        anchors = load_anchors(context, job, base, tasks, decoded)
    if plan.method == "instant":
        patch_instantly(context, job, base, tasks, plan, checkpoint, meter)
        return
    workload = Workload(meter, plan.finetune)
    num_tasks = len(job.request.tasks)
    reporter = Reporter(context, workload, count_steps(num_tasks, plan), count_points(num_tasks, plan))
    journal = JobJournal(context, checkpoint, base, on_skipped=workload.skip, final_loss=lambda: reporter.loss)

    def carry_out(run: Callable[..., Result]) -> Result:
        return run(
            base,
            [tasks[identifier] for identifier in job.request.tasks],
            [tasks[identifier] for identifier in job.request.supported],
            plan,
            anchors=anchors,
            device=base.device,
            journal=journal,
            on_event=reporter,
            transfer=[tasks[identifier] for identifier in job.request.transfer],
            feature_cache=FolderFeatureCache(context.settings.feature_cache_dir, context.settings.feature_cache_bytes),
        )

    if plan.method == "auto":
        best = carry_out(run_auto)
        with checkpoint.stage("register"):
            register_best(context, job, base, tasks, plan, best, journal, checkpoint)
        return
    result = carry_out(run_patch)
    with checkpoint.stage("register"):
        register(context, job, base, tasks, plan, result, journal, checkpoint)


def adopt_children(context: JobContext, checkpoint: PatchCheckpoint) -> None:
    """Copy the results of the child jobs into the checkpoint; once, at the first attempt."""
    if checkpoint.get("task_vectors"):
        return
    with context.database.read() as session:
        done = [child.checkpoint or {} for child in Jobs(session).children(context.lease.job_id)]
    if not done:
        return
    seconds = sum(each["timings_seconds"]["finetune"] for each in done)
    checkpoint.save(
        task_vectors={key: sha256 for each in done for key, sha256 in each["task_vectors"].items()},
        final_losses={key: loss for each in done for key, loss in each["final_losses"].items()},
        timings_seconds={"finetune": seconds},
    )
