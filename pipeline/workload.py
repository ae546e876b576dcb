"""How much work a patch is, in forwards of one image through the image tower: for estimates, progress and the ETA."""

from __future__ import annotations

from collections.abc import Mapping

from paint_core.alpha import AlphaOptions
from paint_core.config.finetune import FinetuneConfig
from paint_core.patching import PatchPlan
from paint_core.patching.trials import trial_configs

DECODE_UNITS = 0.3
_TRAIN_UNITS = 3.0  # a forward and a backward pass
_INTERPOLATED_FORWARDS = 7
_TEST_FORWARDS = 3  # zero-shot, fine-tuned, patched


def total_units(images: Mapping[str, int], num_anchors: int, num_tasks: int, plan: PatchPlan) -> float:
    """Return the work of a whole patch; an estimate, because a search may need a few more evaluations.

    Args:
        images: Number of images by split: train of the patching tasks, validation and test of all.
        num_anchors: Number of images in the anchor pools.
        num_tasks: Number of patching tasks.
        plan: What is done with them.
    """
    decode = DECODE_UNITS * (sum(images.values()) + num_anchors)
    train = count_steps(num_tasks, plan) * step_units(plan.finetune)
    select = count_points(num_tasks, plan) * images["validation"]
    if plan.method == "instant":
        return decode + sum(images.values())  # every image is encoded once
    num_instant = 2 if plan.method == "auto" else 0  # of the base, and of the fine-tuned weights
    return decode + train + select + _TEST_FORWARDS * images["test"] + num_instant * sum(images.values())


def count_steps(num_tasks: int, plan: PatchPlan) -> int:
    """Return the optimizer steps of all fine-tuning runs together."""
    if plan.method == "instant":
        return 0
    if plan.tune is not None:
        return sum(config.iterations for config in trial_configs(plan.finetune, plan.tune))
    num_runs = (num_tasks if plan.method in ("sequential", "parallel") else 1) + (plan.folds or 0)
    return num_runs * plan.finetune.iterations


def count_points(num_tasks: int, plan: PatchPlan) -> float:
    """Return the number of alphas of all searches; an estimate, because a search may need a few more."""
    if plan.method == "instant":
        return 0
    num_searches = plan.tune or plan.folds or (num_tasks if plan.method == "sequential" else 1)
    # With few bits the unrounded task vectors are evaluated, too, at the chosen alpha.
    num_compared = 0 if plan.stored_bits in (32, 16) or plan.folds else 1
    return num_searches * (_num_forwards(plan.alpha) + num_compared)


def step_units(config: FinetuneConfig) -> float:
    """Return the work of an optimizer step."""
    return _TRAIN_UNITS * (config.batch_size + (config.anchor_batch_size if config.anchor_weight else 0))


def _num_forwards(options: AlphaOptions) -> float:
    if options.strategy == "interpolated":
        return len(options.profiles) * _INTERPOLATED_FORWARDS
    return sum(len(options.alphas(profile)) for profile in options.profiles)
