"""Patch: prepare → finetune → select → evaluate → register, resumable from the job's checkpoint at every point."""

from __future__ import annotations

from paint_core.alpha import AlphaOptions, CurvePoint
from paint_core.feature_cache import FolderFeatureCache
from paint_core.finetune import StepReport
from paint_core.finetune_config import FinetuneConfig
from paint_core.patching import Event, PatchPlan, run_patch
from registry.patch_request import PatchRequest
from worker.messages import Note
from worker.progress import ProgressMeter
from worker.run import Run
from worker.steps.journal import JobJournal
from worker.steps.prepare import (
    choose_device,
    load_anchors,
    load_checked_base,
    load_job,
    load_tasks,
    resolve_config,
)
from worker.steps.register import register
from worker.steps.state import PatchState
from worker.steps.workload import DECODE_UNITS, Workload, count_points, count_steps, total_units
from worker.thinning import Thinning

_MOST_LOSSES = 150  # events of a job, of each kind, beside the last loss of each run
_MOST_POINTS = 100


def patch(run: Run) -> None:
    """Make the patch's version and report, or raise why it cannot be made."""
    job = load_job(run)
    base = load_checked_base(job, choose_device(run.settings.device))
    plan = resolve_plan(base.finetune_defaults, job.request)
    meter = ProgressMeter(run.channel.send, total_units(job, plan))
    state = PatchState(run, meter)
    with state.stage("prepare"):

        def decoded(num_images: int) -> None:
            meter.advance(DECODE_UNITS * num_images)

        tasks = load_tasks(run, job, base, decoded)
        anchors = load_anchors(run, job, base, tasks, decoded)
    workload = Workload(meter, plan.finetune)
    num_tasks = len(job.request.tasks)
    losses = Thinning(count_steps(num_tasks, plan), _MOST_LOSSES)
    points = Thinning(count_points(num_tasks, plan), _MOST_POINTS)
    reporter = _Reporter(run, workload, losses, points)
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
        feature_cache=FolderFeatureCache(run.settings.feature_cache_dir, run.settings.feature_cache_bytes),
    )
    with state.stage("register"):
        register(run, job, base, tasks, plan, result, journal, state)


def resolve_plan(defaults: FinetuneConfig, request: PatchRequest) -> PatchPlan:
    """Return the plan that a request means for a base with these fine-tuning defaults.

    Args:
        defaults: The base's own.
        request: What was asked; what it leaves out comes from the library.

    Returns:
        The plan.

    Raises:
        ConfigError: The settings do not go together.
    """
    alpha = request.alpha
    tolerance = AlphaOptions.tolerance_points if alpha.tolerance_points is None else alpha.tolerance_points
    options = AlphaOptions(
        rule=alpha.rule,
        max_supported_drop=alpha.max_supported_drop,
        strategy=alpha.strategy,
        path=alpha.path,
        step=alpha.grid_step,
        max_alpha=alpha.max_alpha,
        tolerance_points=tolerance,
        precision=alpha.precision,
    )
    return PatchPlan(
        method=request.method,
        finetune=resolve_config(defaults, request.finetune, request.anchors),
        alpha=options,
        sampling=request.sampling,
        merge=request.merge,
        coefficients=request.coefficients,
        folds=request.folds,
    )


class _Reporter:
    """Tells the supervisor what happens: progress always, losses and accuracies as events of the job.

    Args:
        run: The attempt.
        workload: Counts what is done.
        losses: Tells which steps become events.
        points: Tells which evaluated alphas become events.

    Attributes:
        loss: Of the last step; None before the first.
    """

    def __init__(self, run: Run, workload: Workload, losses: Thinning, points: Thinning) -> None:
        self._run = run
        self._workload = workload
        self._losses = losses
        self._points = points
        self.loss: float | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case StepReport():
                self._step(event)
            case CurvePoint():
                self._point(event)
            case _:
                self._workload.scores(event.scores)

    def _step(self, report: StepReport) -> None:
        self._workload.step()
        self.loss = report.loss
        if self._losses.is_due() or report.step == report.total:
            data = {"step": report.step, "loss": report.loss, "learning_rate": report.learning_rate}
            data["images_per_second"] = report.images_per_second
            if report.anchor_loss is not None:
                data["anchor_loss"] = report.anchor_loss
            self._run.channel.send(Note("fine-tuning", data=data))

    def _point(self, point: CurvePoint) -> None:
        self._workload.point(point)
        if point.measured and self._points.is_due():  # interpolated ones come all at once, in the report
            accuracies = {name: round(score.accuracy, 6) for name, score in point.scores.items()}
            data = {"alpha": point.alpha, "profile": point.profile, "accuracies": accuracies}
            self._run.channel.send(Note("alpha evaluated", data=data))
