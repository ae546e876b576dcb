"""How much work a patch is, in forwards of one image through the image tower, for the progress bar and the ETA."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from paint_core.alpha import AlphaOptions, CurvePoint
from paint_core.config.finetune import FinetuneConfig
from paint_core.evaluation import Score
from paint_core.patching import PatchPlan
from worker.progress import ProgressMeter
from worker.steps.prepare import PatchJob

DECODE_UNITS = 0.3
_TRAIN_UNITS = 3.0  # a forward and a backward pass
_INTERPOLATED_FORWARDS = 7
_TEST_FORWARDS = 3  # zero-shot, fine-tuned, patched


class Workload:
    """The work of one patch, counted as it is done."""

    def __init__(self, meter: ProgressMeter, config: FinetuneConfig) -> None:
        self._meter = meter
        self._config = config

    def step(self) -> None:
        """Count an optimizer step."""
        self._meter.advance(_step_units(self._config))

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
            self._meter.skip(_step_units(self._config) * (self._config.iterations if done < 0 else done))


def total_units(job: PatchJob, plan: PatchPlan) -> float:
    """Return the work of the whole job; an estimate, because a search may need a few more evaluations."""
    images = job.num_images
    decode = DECODE_UNITS * (sum(images.values()) + job.num_anchors)
    num_tasks = len(job.request.tasks)
    train = count_steps(num_tasks, plan) * _step_units(plan.finetune)
    select = count_points(num_tasks, plan) * images["validation"]
    return decode + train + select + _TEST_FORWARDS * images["test"]


def count_steps(num_tasks: int, plan: PatchPlan) -> int:
    """Return the optimizer steps of all fine-tuning runs together."""
    num_runs = (num_tasks if plan.method in ("sequential", "parallel") else 1) + (plan.folds or 0)
    return num_runs * plan.finetune.iterations


def count_points(num_tasks: int, plan: PatchPlan) -> float:
    """Return the number of alphas of all searches; an estimate, because a search may need a few more."""
    num_searches = plan.folds or (num_tasks if plan.method == "sequential" else 1)
    return num_searches * _num_forwards(plan.alpha)


def part_units(job: PatchJob, plan: PatchPlan, needed: Collection[str]) -> float:
    """Return the work of fine-tuning one task of a parallel patch, with these data sets decoded before."""
    decode = DECODE_UNITS * (job.num_images_of(needed) + job.num_anchors)
    return decode + plan.finetune.iterations * _step_units(plan.finetune)


def _step_units(config: FinetuneConfig) -> float:
    return _TRAIN_UNITS * (config.batch_size + (config.anchor_batch_size if config.anchor_weight else 0))


def _point_units(point: CurvePoint) -> float:
    return _images(point.scores) if point.measured else 0.0


def _images(scores: Mapping[str, Score]) -> float:
    return float(sum(score.total for score in scores.values()))


def _num_forwards(options: AlphaOptions) -> float:
    if options.strategy == "interpolated":
        return len(options.profiles) * _INTERPOLATED_FORWARDS
    return sum(len(options.alphas(profile)) for profile in options.profiles)
