"""Patch: prepare → finetune → select → evaluate → register, resumable from the job's checkpoint at every point.

A parallel patch is fine-tuned by jobs of their own, its parts (`worker.steps.finetune`); this one starts once they have
ended, finds their task vectors in its journal, and joins them.
"""

from __future__ import annotations

from paint_core.evaluation.feature_cache import FolderFeatureCache
from paint_core.patching import run_patch
from pipeline.plans import plan_patch
from registry.jobs import Jobs
from worker.progress import ProgressMeter
from worker.run import Run
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
from worker.steps.state import PatchState
from worker.steps.workload import DECODE_UNITS, Workload, count_points, count_steps, total_units


def patch(run: Run) -> None:
    """Make the patch's version and report, or raise why it cannot be made."""
    job = load_job(run)
    base = load_checked_base(job, find_device(run.settings.device))
    plan = plan_patch(base, job.request)
    meter = ProgressMeter(run.channel.send, total_units(job, plan))
    state = PatchState(run, meter)
    take_over_parts(run, state)
    with state.stage("prepare"):

        def decoded(num_images: int) -> None:
            meter.advance(DECODE_UNITS * num_images)

        tasks = load_tasks(run, job, base, decoded)
        anchors = load_anchors(run, job, base, tasks, decoded)
    workload = Workload(meter, plan.finetune)
    num_tasks = len(job.request.tasks)
    reporter = Reporter(run, workload, count_steps(num_tasks, plan), count_points(num_tasks, plan))
    journal = JobJournal(run, state, base, on_skipped=workload.skip, final_loss=lambda: reporter.loss)
    result = run_patch(
        base,
        [tasks[identifier] for identifier in job.request.tasks],
        [tasks[identifier] for identifier in job.request.supported],
        plan,
        anchors=anchors,
        device=base.device,
        journal=journal,
        on_event=reporter,
        transfer=[tasks[identifier] for identifier in job.request.transfer],
        feature_cache=FolderFeatureCache(run.settings.feature_cache_dir, run.settings.feature_cache_bytes),
    )
    with state.stage("register"):
        register(run, job, base, tasks, plan, result, journal, state)


def take_over_parts(run: Run, state: PatchState) -> None:
    """Let the journal know what the jobs that did this one's parts have trained; once, at the first attempt."""
    if state.get("task_vectors"):
        return
    with run.database.read() as session:
        done = [part.checkpoint or {} for part in Jobs(session).parts(run.lease.job_id)]
    if not done:
        return
    seconds = sum(each["timings_seconds"]["finetune"] for each in done)
    state.save(
        task_vectors={key: sha256 for each in done for key, sha256 in each["task_vectors"].items()},
        final_losses={key: loss for each in done for key, loss in each["final_losses"].items()},
        timings_seconds={"finetune": seconds},
    )
