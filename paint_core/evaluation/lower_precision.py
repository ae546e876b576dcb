"""Whether a tower may answer in a lower precision: its weights cast once, compared with float32 on labelled images."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paint_core.data import LabelledImages
from paint_core.errors import EmptySplitError
from paint_core.evaluation.scoring import Correction, corrected_logits, encode
from paint_core.models import BaseModel

LEAST_COSINE, LEAST_AGREEMENT, MOST_DROP_POINTS = 0.999, 0.995, 0.1
_IMAGES_A_CHUNK = 128


@dataclass(frozen=True)
class PrecisionComparison:
    """What bfloat16 changes.

    Attributes:
        num_images: that were compared, over all tasks.
        cosine: the lowest of an image's features in both precisions.
        agreement: share of images with the same best class, in [0, 1], of the task with the lowest.
        drop_points: accuracy in float32 minus that in bfloat16, in percentage points, of the task with the largest.
    """

    num_images: int
    cosine: float
    agreement: float
    drop_points: float

    @property
    def refusal(self) -> str | None:
        """Why the tower must not be served in bfloat16; None: it may."""
        if not self.cosine >= LEAST_COSINE:  # also true for NaN
            return f"the features of an image differ (cosine {self.cosine:.4f}, at least {LEAST_COSINE} is needed)"
        if self.agreement < LEAST_AGREEMENT:
            return (
                f"only {100 * self.agreement:.2f} % of a task's images have the same first label, "
                f"{100 * LEAST_AGREEMENT:g} % are needed"
            )
        if self.drop_points > MOST_DROP_POINTS:
            return f"a task loses {self.drop_points:.2f} points of accuracy, {MOST_DROP_POINTS:g} are allowed"
        return None


def compare_precision(
    visual: nn.Module,
    base: BaseModel,
    tasks: Mapping[str, tuple[Tensor, LabelledImages]],
    correction: Callable[[LabelledImages], Correction | None] = lambda _: None,
) -> PrecisionComparison:
    """The answers of a tower in bfloat16 compared with those in float32.

    Args:
        visual: the tower, in float32 on the base's device; it is copied.
        base: its base.
        tasks: name to (head [C, D], labelled images).
        correction: what head terms make of the logits of a task's images.

    Raises:
        EmptySplitError: no task.
        RuntimeError: the tower cannot compute in bfloat16.
    """
    if not tasks:
        raise EmptySplitError("there are no images to compare precisions on: give at least one task")
    cast = copy.deepcopy(visual).to(torch.bfloat16).eval()
    found = []
    for head, images in tasks.values():
        exact = F.normalize(encode(visual, images.images, base.preprocess, device=base.device), dim=-1)
        rough = F.normalize(_encode_cast(cast, images.images, base), dim=-1)
        correct = correction(images)
        first, second = (
            corrected_logits(features, head.to(features), base.logit_scale, base.logit_bias, correct).argmax(dim=1)
            for features in (exact, rough)
        )
        labels = images.labels.to(first.device)
        drop = (first == labels).sum() - (second == labels).sum()
        cosine = (exact.double() * rough.double()).sum(dim=1).min()
        found.append((float(cosine), float((first == second).double().mean()), 100 * float(drop) / len(labels)))
    cosines, agreements, drops = zip(*found, strict=True)
    return PrecisionComparison(sum(len(each) for _, each in tasks.values()), min(cosines), min(agreements), max(drops))


@torch.inference_mode()
def _encode_cast(cast: nn.Module, images: Tensor, base: BaseModel) -> Tensor:
    parts = [
        cast(base.preprocess.normalise(part, base.device).to(torch.bfloat16)).float()
        for part in torch.split(images, _IMAGES_A_CHUNK)
    ]
    return torch.cat(parts)
