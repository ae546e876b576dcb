"""How much work a patch is, counted as it is done, for the progress bar and the ETA."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from paint_core.alpha import CurvePoint
from paint_core.config.finetune import FinetuneConfig
from paint_core.evaluation import Score
from paint_core.patching import PatchPlan
from pipeline.workload import DECODE_UNITS, step_units
from worker.progress import ProgressMeter
from worker.steps.prepare import PatchJob


class Workload:
    """The work of one patch, counted as it is done."""

    def __init__(self, meter: ProgressMeter, config: FinetuneConfig) -> None:
        self._meter = meter
        self._config = config

    def step(self) -> None:
        """Count an optimizer step."""
        self._meter.advance(step_units(self._config))

    def point(self, point: CurvePoint) -> None:
        """Count the evaluation of one alpha; an interpolated point is none."""
        self._meter.advance(_point_units(point))

    def scores(self, scores: Mapping[str, Score]) -> None:
        """Count an evaluation on test splits."""
        self._meter.advance(_images(scores))

    def skip(self, done: int | CurvePoint) -> None:
        """Count the work of an earlier attempt: a number of optimizer steps, -1 for a whole run, or a point."""
        if isinstance(done, CurvePoint):
            self._meter.skip(_point_units(done))
        else:
            self._meter.skip(step_units(self._config) * (self._config.iterations if done < 0 else done))


def part_units(job: PatchJob, plan: PatchPlan, needed: Collection[str]) -> float:
    """Return the work of fine-tuning one task of a parallel patch, with these data sets decoded before."""
    decode = DECODE_UNITS * (job.num_images_of(needed) + job.num_anchors)
    return decode + plan.finetune.iterations * step_units(plan.finetune)


def _point_units(point: CurvePoint) -> float:
    return _images(point.scores) if point.measured else 0.0


def _images(scores: Mapping[str, Score]) -> float:
    return float(sum(score.total for score in scores.values()))
