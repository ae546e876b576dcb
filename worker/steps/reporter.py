"""What a trainer tells while it works."""

from __future__ import annotations

from paint_core.alpha import CurvePoint
from paint_core.finetune import StepReport
from paint_core.patching import Event
from worker.messages import Note
from worker.run import Run
from worker.steps.workload import Workload

_LOSS_EVENTS = 20


class Reporter:
    """Tells the supervisor what happens: progress always, losses as events of the job.

    Args:
        run: The attempt.
        workload: Counts what is done.

    Attributes:
        loss: Of the last step; None before the first.
    """

    def __init__(self, run: Run, workload: Workload) -> None:
        self._run = run
        self._workload = workload
        self.loss: float | None = None

    def __call__(self, event: Event) -> None:
        """Tell of the event."""
        match event:
            case StepReport():
                self._step(event)
            case CurvePoint():
                self._workload.point(event)
            case _:
                self._workload.scores(event.scores)

    def _step(self, report: StepReport) -> None:
        self._workload.step()
        self.loss = report.loss
        if report.step % max(report.total // _LOSS_EVENTS, 1) == 0 or report.step == report.total:
            data = {"step": report.step, "loss": report.loss, "learning_rate": report.learning_rate}
            data["images_per_second"] = report.images_per_second
            if report.anchor_loss is not None:
                data["anchor_loss"] = report.anchor_loss
            self._run.channel.send(Note("fine-tuning", data=data))
