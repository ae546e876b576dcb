"""From a request to patch to the plan that is carried out, and what a base refuses of it.

The API calls `plan_patch` before it queues a job, the trainer before it starts: what one refuses, the other does too,
in the same words.
"""

from __future__ import annotations

from dataclasses import replace

from contract.finetune_options import AnchorOptions, FinetuneOptions
from contract.patch_request import PatchOptions
from paint_core.alpha import MAX_MERGED_ALPHA, AlphaOptions
from paint_core.config.finetune import FinetuneConfig
from paint_core.models import BaseModel
from paint_core.patching import PatchPlan
from paint_core.patching.plan import RESCALED
from paint_core.training.tower import require_trainable
from paint_core.weights.profiles import depth_factors


def plan_patch(base: BaseModel, request: PatchOptions) -> PatchPlan:
    """Return the plan that a request means for a base."""
    plan = PatchPlan(
        method=request.method,
        finetune=_finetune_config(base.finetune_defaults, request.finetune, request.anchors),
        alpha=_alpha_options(request),
        sampling=request.sampling,
        merge=request.merge if request.method == "parallel" else "average",
        coefficients=request.coefficients,
        folds=request.folds,
        bits=request.store.bits,
        keep=request.keep,
        tune=request.finetune.tune,
    )
    if plan.method == "instant":
        return plan
    require_trainable(base.visual, plan.finetune)
    if plan.alpha.path != "flat":
        depth_factors(list(base.visual.state_dict()), "lines_paper")
    return plan


def _alpha_options(request: PatchOptions) -> AlphaOptions:
    alpha = request.alpha
    assert alpha.rule is not None  # a request without one has been given its default
    tolerance = AlphaOptions.tolerance_points if alpha.tolerance_points is None else alpha.tolerance_points
    return AlphaOptions(
        rule=alpha.rule,
        max_supported_drop=alpha.max_supported_drop,
        max_mean_drop=alpha.max_mean_drop,
        confidence=alpha.confidence or AlphaOptions.confidence,
        strategy=alpha.strategy,
        path=alpha.path,
        step=alpha.grid_step,
        max_alpha=alpha.max_alpha,
        max_flat_alpha=MAX_MERGED_ALPHA if request.merge in RESCALED else 1.0,
        tolerance_points=tolerance,
        precision=alpha.precision,
        metric=alpha.metric,
    )


def _finetune_config(
    defaults: FinetuneConfig, options: FinetuneOptions, anchors: AnchorOptions | None
) -> FinetuneConfig:
    """Return the base's defaults with what the request sets; a shorter run keeps its share of warm-up."""
    given = {name: value for name, value in options.model_dump(exclude={"tune"}).items() if value is not None}
    if anchors is not None:
        given["anchor_weight"] = anchors.weight
        if anchors.batch_size is not None:
            given["anchor_batch_size"] = anchors.batch_size
    if "iterations" in given and "warmup_steps" not in given:
        share = defaults.warmup_steps / defaults.iterations
        given["warmup_steps"] = min(int(share * given["iterations"]), given["iterations"] - 1)
    return replace(defaults, **given)
