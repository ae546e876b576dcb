"""What a loaded base says about a patch request before a job is queued, so that no worker has to find out."""

from __future__ import annotations

from dataclasses import replace

from contract.patch_request import PatchRequest
from paint_core.models import BaseModel
from paint_core.training.freezing import last_blocks
from paint_core.weights.profiles import depth_factors


def refuse_what_the_base_cannot(base: BaseModel, request: PatchRequest) -> None:
    """Check the settings against the base's own ones, and what they need of the tower.

    Args:
        base: The base that the patch starts from.
        request: What was asked.

    Raises:
        ConfigError: A setting contradicts one of the base's own, or the tower has fewer blocks than `last_k`.
        ProfileError: The path scales by depth and the tower's depth is not known.
    """
    names = list(base.visual.state_dict())
    given = {name: value for name, value in request.finetune.model_dump().items() if value is not None}
    if request.anchors is not None:
        given["anchor_weight"] = request.anchors.weight
        given |= {"anchor_batch_size": request.anchors.batch_size} if request.anchors.batch_size else {}
    if "iterations" in given:
        given.setdefault("warmup_steps", 0)  # the base's own are for its own number of iterations
    replace(base.finetune_defaults, **given)
    if request.finetune.last_k is not None:
        last_blocks(names, request.finetune.last_k)
    if request.alpha.path != "flat":
        depth_factors(names, "lines_paper")
