"""Fine-tune: a child job of a parallel patch, which fine-tunes one task. The parent job mixes the results."""

from __future__ import annotations

from paint_core.patching import run_part
from pipeline.plans import plan_patch
from pipeline.workload import DECODE_UNITS
from registry.jobs import Jobs
from worker.job_context import JobContext
from worker.progress import ProgressMeter
from worker.steps.checkpoint import PatchCheckpoint
from worker.steps.journal import JobJournal
from worker.steps.prepare import find_device, load_anchors, load_checked_base, load_job, load_tasks
from worker.steps.reporter import Reporter
from worker.steps.workload import Workload, part_units


def finetune(context: JobContext) -> None:
    """Create the task vector of one task of a parallel patch, or raise why that is impossible."""
    assert context.part is not None  # whoever queued the job said which
    job = load_job(context)
    base = load_checked_base(job.base_ref, job.row.base_fingerprint, find_device(context.settings.device))
    plan = plan_patch(base, job.request)
    needed = tuple(job.datasets) if job.pools else (context.part,)  # anchors must be no evaluation image of any task
    meter = ProgressMeter(context.channel.send, part_units(job, plan, needed))
    checkpoint = PatchCheckpoint(context, meter)
    with checkpoint.stage("prepare"):

        def decoded(num_images: int) -> None:
            meter.advance(DECODE_UNITS * num_images)

        tasks = load_tasks(context, job, base, decoded, needed)
        anchors = load_anchors(context, job, base, tasks, decoded)
    workload = Workload(meter, plan.finetune)
    reporter = Reporter(context, workload, plan.finetune.iterations)
    journal = JobJournal(context, checkpoint, base, on_skipped=workload.skip, final_loss=lambda: reporter.loss)
    run_part(base, tasks[context.part], plan, anchors=anchors, device=base.device, journal=journal, on_event=reporter)
    _hand_in(context, checkpoint)


def _hand_in(context: JobContext, checkpoint: PatchCheckpoint) -> None:
    """End the job with its result; the training state of the last checkpoint that was recorded is of no more use."""
    with context.database.write() as session:
        recorded = Jobs(session).succeed(context.lease, checkpoint.value)
    if recorded.get("state_sha256"):
        context.blobs.delete(recorded["state_sha256"])
