"""The reports of a trainer during its work."""

from __future__ import annotations

from contract.job_events import AlphaEvaluated, FineTuning, TrialJudged
from paint_core.alpha import CurvePoint
from paint_core.patching import Event, TestPoint
from paint_core.patching.trials import Trial
from paint_core.training.finetuning import StepReport
from worker.job_context import JobContext
from worker.messages import Note
from worker.steps.workload import Workload
from worker.thinning import Thinning

_MOST_LOSSES = 150  # events of a job, of each kind, beside the last loss of each run
_MOST_POINTS = 100


class Reporter:
    """Reports to the supervisor: progress always, losses and accuracies as events of the job.

    Args:
        context: The attempt.
        workload: Counts what is done.
        num_steps: Expected number of optimizer steps.
        num_points: Expected number of evaluated alphas.

    Attributes:
        loss: Of the last step; None before the first.
    """

    def __init__(self, context: JobContext, workload: Workload, num_steps: int, num_points: float = 0) -> None:
        self._context = context
        self._workload = workload
        self._losses = Thinning(num_steps, _MOST_LOSSES)
        self._points = Thinning(num_points, _MOST_POINTS)
        self.loss: float | None = None

    def __call__(self, event: Event) -> None:
        """Report the event."""
        match event:
            case StepReport():
                self._step(event)
            case CurvePoint():
                self._point(event)
            case Trial():
                self._trial(event)
            case TestPoint():
                self._workload.scores(event.scores)

    def _step(self, report: StepReport) -> None:
        self._workload.step()
        self.loss = report.loss
        if self._losses.is_due() or report.step == report.total or report.validation_accuracy is not None:
            told = FineTuning(
                step=report.step,
                loss=report.loss,
                learning_rate=report.learning_rate,
                images_per_second=report.images_per_second,
            )
            known = {"anchor_loss": report.anchor_loss, "validation_accuracy": report.validation_accuracy}
            told = told.model_copy(update={name: value for name, value in known.items() if value is not None})
            self._context.channel.send(Note.of(told))

    def _trial(self, trial: Trial) -> None:
        config = trial.config
        told = TrialJudged(number=trial.number, learning_rate=config.learning_rate, iterations=config.iterations)
        names = ("alpha", "patching", "supported", "failure")
        found = {name: getattr(trial, name) for name in names if getattr(trial, name) not in (None, "")}
        told = told.model_copy(update=found)
        self._context.channel.send(Note.of(told))

    def _point(self, point: CurvePoint) -> None:
        self._workload.point(point)
        if point.measured and self._points.is_due():  # interpolated ones come all at once, in the report
            accuracies = {name: round(score.accuracy, 6) for name, score in point.scores.items()}
            told = AlphaEvaluated(alpha=point.alpha, profile=point.profile, accuracies=accuracies)
            self._context.channel.send(Note.of(told))
