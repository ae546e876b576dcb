"""Whether a tower may answer in lower precisions: its features there, compared with those in float32."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paint_core.data import LabelledImages
from paint_core.errors import EmptySplitError
from paint_core.evaluation.scoring import Correction, corrected_logits, encode
from paint_core.models import BaseModel
from paint_core.programs import Forward

LEAST_COSINE, LEAST_AGREEMENT, MOST_DROP_POINTS = 0.999, 0.995, 0.1
_IMAGES_A_CHUNK = 64
_Name = TypeVar("_Name", bound=str)


@dataclass(frozen=True)
class PrecisionComparison:
    """What a lower precision changes.

    Attributes:
        num_images: that were compared, over all tasks.
        cosine: the lowest of an image's features in both precisions.
        agreement: share of images with the same best class, in [0, 1], of the task with the lowest.
        drop_points: accuracy in float32 minus that in the lower precision, in percentage points, of the task with the
            largest.
        least_cosine: that every image needs; -1: any.
    """

    num_images: int
    cosine: float
    agreement: float
    drop_points: float
    least_cosine: float = LEAST_COSINE

    @property
    def refusal(self) -> str | None:
        """Why the tower must not be served in this precision; None: it may."""
        if not self.cosine >= self.least_cosine:  # also true for NaN
            return f"the features of an image differ (cosine {self.cosine:.4f}, at least {self.least_cosine} is needed)"
        if self.agreement < LEAST_AGREEMENT:
            return (
                f"only {100 * self.agreement:.2f} % of a task's images have the same first label, "
                f"{100 * LEAST_AGREEMENT:g} % are needed"
            )
        if self.drop_points > MOST_DROP_POINTS:
            return f"a task loses {self.drop_points:.2f} points of accuracy, {MOST_DROP_POINTS:g} are allowed"
        return None


def compare_precisions(
    visual: nn.Module,
    lower: Mapping[_Name, Forward],
    base: BaseModel,
    tasks: Mapping[str, tuple[Tensor, LabelledImages]],
    correction: Callable[[LabelledImages], Correction | None] = lambda _: None,
) -> dict[_Name, PrecisionComparison]:
    """The answers of a tower in lower precisions compared with those in float32.

    Args:
        visual: the tower, in float32 on the base's device.
        lower: what computes its features, by precision. `bf16` has to keep each image's direction, others the answers.
        base: its base.
        tasks: name to (head [C, D], labelled images).
        correction: what head terms make of the logits of a task's images.

    Raises:
        EmptySplitError: no task.
        RuntimeError: the tower cannot compute in one of the precisions.
    """
    if not tasks:
        raise EmptySplitError("there are no images to compare precisions on: give at least one task")
    found: dict[_Name, list[tuple[float, float, float]]] = {name: [] for name in lower}
    for head, images in tasks.values():
        exact = F.normalize(encode(visual, images.images, base.preprocess, device=base.device), dim=-1)
        labels, correct = images.labels.to(exact.device), correction(images)

        def first_labels(features: Tensor, head: Tensor = head, correct: Correction | None = correct) -> Tensor:
            scores = corrected_logits(features, head.to(features), base.logit_scale, base.logit_bias, correct)
            return scores.argmax(dim=1)

        expected = first_labels(exact)
        for name, forward in lower.items():
            rough = _features(forward, images.images).to(exact.device)
            answers = first_labels(rough)
            drop = int((expected == labels).sum() - (answers == labels).sum())
            cosine = (exact.double() * rough.double()).sum(dim=1).min()
            agreement = (expected == answers).double().mean()
            found[name].append((float(cosine), float(agreement), 100 * drop / len(labels)))
    num_images = sum(len(images) for _, images in tasks.values())
    return {name: _summarise(name, num_images, measured) for name, measured in found.items()}


def bf16_forward(visual: nn.Module, base: BaseModel) -> Forward:
    """What computes a tower's features in bfloat16, with its weights cast once."""
    cast = copy.deepcopy(visual).to(torch.bfloat16).eval()

    def forward(images: Tensor) -> Tensor:
        return F.normalize(cast(base.preprocess.normalise(images, base.device).to(torch.bfloat16)).float(), dim=-1)

    return forward


@torch.inference_mode()
def _features(forward: Forward, images: Tensor) -> Tensor:
    return torch.cat([forward(part) for part in torch.split(images, _IMAGES_A_CHUNK)])


def _summarise(name: str, num_images: int, measured: list[tuple[float, float, float]]) -> PrecisionComparison:
    cosines, agreements, drops = zip(*measured, strict=True)
    least_cosine = LEAST_COSINE if name == "bf16" else -1.0
    return PrecisionComparison(num_images, min(cosines), min(agreements), max(drops), least_cosine)
