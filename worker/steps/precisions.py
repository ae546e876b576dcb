"""Whether a new version may be served in lower precisions, shown on its own validation images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import structlog
import torch
from torch import nn

from contract.precision import LowerPrecision, PrecisionCheck
from paint_core.config.precision import has_bf16, has_int8
from paint_core.data import LabelledImages, Task
from paint_core.evaluation import probe_images
from paint_core.evaluation.lower_precision import bf16_forward, compare_precisions
from paint_core.evaluation.scoring import Correction
from paint_core.models import BaseModel
from paint_core.programs import Forward
from pipeline.heads import Heads
from pipeline.programs import ProgramStore

log = structlog.get_logger()


def check_precisions(
    visual: nn.Module | None, base: BaseModel, tasks: Mapping[str, Task], heads: Heads, programs: Path
) -> tuple[PrecisionCheck, ...]:
    """Return what lower precisions change; nothing of those that this machine has no instructions for.

    Args:
        visual: The patched image tower, on the base's device; None: it is the base's, of which nothing is recorded.
        base: Its base.
        tasks: Whose validation images are compared.
        heads: Head terms of the version.
        programs: Folder in which programs of towers are kept.
    """
    if visual is None:
        return ()

    def correction(images: LabelledImages) -> Correction | None:
        return partial(heads.correct, classnames=images.classnames) if heads.terms else None

    judged = {name: (task.head, task.validation) for name, task in tasks.items()}
    lower = _open_lower(visual, base, ProgramStore(programs))
    compared = compare_precisions(visual, lower, base, judged, correction) if lower else {}
    return tuple(
        PrecisionCheck(
            precision=precision,
            accepted=found.refusal is None,
            reason=found.refusal,
            num_images=found.num_images,
            cosine=found.cosine,
            agreement=found.agreement,
            drop_points=found.drop_points,
        )
        for precision, found in compared.items()
    )


def _open_lower(visual: nn.Module, base: BaseModel, programs: ProgramStore) -> dict[LowerPrecision, Forward]:
    """Return what computes the tower's features in each precision that it computes in."""
    program = programs.find(base) if has_int8(base.device) else None
    openers: dict[LowerPrecision, Callable[[], Forward]] = {}
    if has_bf16(base.device):
        openers["bf16"] = partial(bf16_forward, visual, base)
    if program is not None:
        openers["int8"] = partial(program.forward, visual, "int8")
    opened: dict[LowerPrecision, Forward] = {}
    for precision, opener in openers.items():
        try:
            forward = opener()
            with torch.inference_mode():
                forward(probe_images(base.image_size))
        except RuntimeError as error:  # it has a layer that does not compute in it
            log.warning("precision not compared", precision=precision, cause=str(error)[:200])
        else:
            opened[precision] = forward
    return opened
