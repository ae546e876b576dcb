"""Fine-tune: the part of a parallel patch that one task needs, in a job of its own. The patch's job joins the parts."""

from __future__ import annotations

from paint_core.patching import run_part
from pipeline.plans import plan_patch
from registry.jobs import Jobs
from worker.progress import ProgressMeter
from worker.run import Run
from worker.steps.journal import JobJournal
from worker.steps.prepare import find_device, load_anchors, load_checked_base, load_job, load_tasks
from worker.steps.reporter import Reporter
from worker.steps.state import PatchState
from worker.steps.workload import DECODE_UNITS, Workload, part_units


def finetune(run: Run) -> None:
    """Make the task vector of one task of a parallel patch, or raise why it cannot be made."""
    assert run.part is not None  # whoever queued the job said which
    job = load_job(run)
    base = load_checked_base(job, find_device(run.settings.device))
    plan = plan_patch(base, job.request)
    needed = tuple(job.datasets) if job.pools else (run.part,)  # anchors must be no evaluation image of any task
    meter = ProgressMeter(run.channel.send, part_units(job, plan, needed))
    state = PatchState(run, meter)
    with state.stage("prepare"):

        def decoded(num_images: int) -> None:
            meter.advance(DECODE_UNITS * num_images)

        tasks = load_tasks(run, job, base, decoded, needed)
        anchors = load_anchors(run, job, base, tasks, decoded)
    workload = Workload(meter, plan.finetune)
    reporter = Reporter(run, workload, plan.finetune.iterations)
    journal = JobJournal(run, state, base, on_skipped=workload.skip, final_loss=lambda: reporter.loss)
    run_part(base, tasks[run.part], plan, anchors=anchors, device=base.device, journal=journal, on_event=reporter)
    _hand_in(run, state)


def _hand_in(run: Run, state: PatchState) -> None:
    """End the job with its result; the training state of the last checkpoint that was recorded is of no more use."""
    with run.database.write() as session:
        recorded = Jobs(session).succeed(run.lease, state.value)
    if recorded.get("state_sha256"):
        run.blobs.delete(recorded["state_sha256"])
