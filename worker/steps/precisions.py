"""Whether a new version may be served in bfloat16, shown on its own validation images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import structlog
from torch import nn

from contract.precision import PrecisionCheck
from paint_core.config.precision import has_bf16
from paint_core.data import LabelledImages, Task
from paint_core.evaluation.lower_precision import compare_precision
from paint_core.evaluation.scoring import Correction
from paint_core.models import BaseModel
from pipeline.heads import Heads

log = structlog.get_logger()


def check_precisions(
    visual: nn.Module, base: BaseModel, tasks: Mapping[str, Task], heads: Heads
) -> tuple[PrecisionCheck, ...]:
    """Return what bfloat16 changes; nothing where this machine would compute it in software, which takes long.

    Args:
        visual: The patched image tower, on the base's device.
        base: Its base.
        tasks: Whose validation images are compared.
        heads: Head terms of the version.
    """
    if not has_bf16(base.device):
        return ()

    def correction(images: LabelledImages) -> Correction | None:
        return partial(heads.correct, classnames=images.classnames) if heads.terms else None

    judged = {name: (task.head, task.validation) for name, task in tasks.items()}
    try:
        found = compare_precision(visual, base, judged, correction)
    except RuntimeError as error:  # the tower has a layer that does not compute in it
        log.warning("bf16 not compared", cause=str(error)[:200])
        return ()
    return (
        PrecisionCheck(
            precision="bf16",
            accepted=found.refusal is None,
            reason=found.refusal,
            num_images=found.num_images,
            cosine=found.cosine,
            agreement=found.agreement,
            drop_points=found.drop_points,
        ),
    )
