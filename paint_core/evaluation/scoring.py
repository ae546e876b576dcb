"""How good an image tower is on labelled images: top-1 and top-5 accuracy, loss and calibration error."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paint_core.config.precision import Precision
from paint_core.data import LabelledImages
from paint_core.data.datasets import require_size
from paint_core.errors import DatasetError, NonFiniteWeightsError
from paint_core.evaluation.statistics import wilson_interval
from paint_core.images.preprocess import Preprocess
from paint_core.models import BaseModel
from paint_core.models.heads import logits, require_head
from paint_core.runtime.arguments import require_device, require_type

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1"]
"""What a rule may maximise: an attribute of `Score`."""

_TOP = 5
_NUM_BINS = 15
_ROWS_A_CHUNK = 8192


Correction = Callable[[Tensor, Tensor], Tensor]
"""From unit features [B, D] and zero-shot logits [B, C] to corrected logits [B, C]: what head terms do."""


@dataclass(frozen=True)
class Score:
    """A result on one split.

    Attributes:
        correct: number of images whose best logit is their label's; for several models evaluated on the same images the
            mean over the models, a fraction.
        total: images, >= 1.
        loss: mean cross-entropy, in nats.
        ece: expected calibration error in [0, 1], over 15 equally wide bins (Guo et al., ICML 2017, equation 3).
        correct_top5: number of images with fewer than five logits above their label's; all with five classes or fewer.
        lost: images that the reference model classifies correctly and this one does not; None if there was no
            reference.
        gained: images that this model classifies correctly and the reference does not.
        balanced_accuracy: mean over the classes that have images of the share classified correctly, in [0, 1]; None:
            not known, an older release scored.
        macro_f1: mean over these classes of F1, in [0, 1]; None as before. Both are means of their folds, weighted by
            images, where a score stands for several.
    """

    correct: int | Fraction
    total: int
    loss: float
    ece: float
    correct_top5: int | Fraction
    lost: int | None = None
    gained: int | None = None
    balanced_accuracy: float | None = None
    macro_f1: float | None = None

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy in [0, 1]."""
        return float(self.correct / self.total)

    def interval(self) -> tuple[float, float]:
        """The Wilson score interval of the accuracy at 95 % (Wilson 1927), within [0, 1]."""
        return wilson_interval(self.correct, self.total)


def encode(
    visual: nn.Module,
    images: Tensor,
    preprocess: Preprocess,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 128,
    precision: Precision = "fp32",
) -> Tensor:
    """The features of the images, in eval mode and without gradients; the tower's mode is restored.

    Args:
        visual: the image tower, on `device`.
        images: uint8 [N, S, S, 3].
        batch_size: images at a time, >= 1.
        precision: `fp32`, or `bf16` for autocast, which casts each weight once.

    Returns:
        float32 [N, D] on `device`, not of unit length; maybe an inference tensor, so clone it before training on it.
    """
    require_type(
        "visual", visual, nn.Module, "pass an image tower, such as base.visual or mixed_copy(base.visual, terms)"
    )
    require_size(images, preprocess.size)
    device = require_device(device)
    is_bf16 = precision == "bf16"
    tower = _with_cached_casts(visual) if is_bf16 else visual
    # Autocast keeps no casts in inference mode.
    without_gradients = torch.no_grad() if is_bf16 else torch.inference_mode()
    with without_gradients, eval_mode(tower), autocast(device, precision):
        chunks = [
            tower(preprocess.normalise(images[start : start + batch_size], device)).float()
            for start in range(0, len(images), batch_size)
        ]
        return torch.cat(chunks)


def evaluate(
    visual: nn.Module,
    base: BaseModel,
    head: Tensor,
    images: LabelledImages,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 128,
    precision: Precision = "fp32",
) -> Score:
    """The score of an image tower under a head.

    Args:
        visual: the tower to evaluate, on `device`.
        base: whose preprocessing and logit scale to use.
        head: [C, D], from `build_head`.
        images: the split; its labels index the head's rows.
        batch_size: images at a time, >= 1.
        precision: `fp32`, or `bf16` for autocast.
    """
    require_type("base", base, BaseModel, "pass the model that load_base gives")
    require_type("images", images, LabelledImages, "pass a split, such as load_image_folder gives")
    features = encode(visual, images.images, base.preprocess, device=device, batch_size=batch_size, precision=precision)
    return score_features(features, head, images.labels, scale=base.logit_scale, bias=base.logit_bias)


@torch.inference_mode()
def score_features(
    features: Tensor,
    head: Tensor,
    labels: Tensor,
    *,
    scale: float,
    bias: float = 0.0,
    reference: Tensor | None = None,
    correct: Correction | None = None,
) -> Score:
    """The score of features under a head; memory stays bounded, whatever N and C are.

    Args:
        features: [N, D], N >= 1, of any length; on any device.
        head: [C, D], unit rows, from `build_head`.
        labels: int64 [N], indices of the head's rows.
        reference: bool [N], whether another model is right on each image, to count what was lost and gained.
        correct: of the logits; None leaves them.

    Raises:
        DatasetError: no features, not one label for each, or a label that has no row in the head.
        NonFiniteWeightsError: a feature is NaN or infinite; argmax would assign it a class.
    """
    if len(features) == 0 or len(labels) != len(features):
        raise DatasetError(
            f"{len(features)} features and {len(labels)} labels: give one label for each of at least one"
        )
    require_head(head, features.shape[1])
    if not 0 <= int(labels.min()) <= int(labels.max()) < len(head):
        raise DatasetError(
            f"a label is outside 0..{len(head) - 1}, the rows of the head: build the head from the split's classnames"
        )
    # The sum is finite if all are, unless it overflows: it spares a pass over a tensor of flags.
    if not math.isfinite(float(features.sum())) and not bool(torch.isfinite(features).all()):
        raise NonFiniteWeightsError("features are NaN or infinite: use other weights, for example a smaller alpha")
    head, labels = head.to(features.device), labels.to(features.device)
    rows = [
        _judge(corrected_logits(features[start:end], head, scale, bias, correct), labels[start:end])
        for start, end in row_chunks(len(features))
    ]
    predicted, right, in_top, loss, confidence = (torch.cat(column) for column in zip(*rows, strict=True))
    balanced, f1 = _mean_over_classes(predicted, right, labels, len(head))
    return Score(
        correct=int(right.sum()),
        total=len(features),
        loss=float(loss.double().mean()),
        ece=calibration_error(confidence, right),
        correct_top5=int(in_top.sum()),
        lost=None if reference is None else int((reference.to(right.device) & ~right).sum()),
        gained=None if reference is None else int((right & ~reference.to(right.device)).sum()),
        balanced_accuracy=balanced,
        macro_f1=f1,
    )


@torch.inference_mode()
def predictions(features: Tensor, head: Tensor) -> Tensor:
    """The class of the best logit of each image, int64 [N]; scale and bias do not change it.

    Args:
        features: [N, D], of any length.
        head: [C, D], unit rows.
    """
    head = head.to(features.device)
    chunks = [logits(features[start:end], head, 1.0).argmax(dim=1) for start, end in row_chunks(len(features))]
    return torch.cat(chunks) if chunks else torch.empty(0, dtype=torch.int64, device=features.device)


def correct_answers(features: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """Whether the best logit of each image is its label's; arguments as for `score_features`.

    Returns:
        bool [N] on the features' device.
    """
    return predictions(features, head) == labels.to(features.device)


def corrected_logits(
    features: Tensor, head: Tensor, scale: float, bias: float = 0.0, correct: Correction | None = None
) -> Tensor:
    """The class logits float32 [B, C], corrected if a correction is given; other arguments as for `logits`."""
    rows = logits(features, head, scale, bias).float()
    return rows if correct is None else correct(F.normalize(features.float(), dim=-1), rows)


def calibration_error(confidence: Tensor, correct: Tensor) -> float:
    """The expected calibration error over 15 equally wide bins (Guo et al., ICML 2017, arXiv 1706.04599, equation 3).

    Args:
        confidence: [N], the largest probability of each image, in (0, 1]; bins are open below and closed above.
        correct: bool [N].

    Returns:
        The mean over images of |accuracy - confidence| of their bins, in [0, 1].
    """
    bins = (confidence.double() * _NUM_BINS).ceil().long().clamp(1, _NUM_BINS) - 1
    gaps = torch.zeros(_NUM_BINS, dtype=torch.float64, device=confidence.device)
    gaps.index_add_(0, bins, correct.double() - confidence.double())
    return float(gaps.abs().sum()) / len(confidence)


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """The module in eval mode while the context lasts, then as it was, sub-module by sub-module."""
    training = [child for child in module.modules() if child.training]
    module.eval()
    try:
        yield
    finally:
        for child in training:
            child.training = True


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The autocast context of a precision: bfloat16, or none for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _with_cached_casts(visual: nn.Module) -> nn.Module:
    """The tower in the same memory, with parameters whose casts autocast keeps: leaves that require gradients."""
    shared: dict[int, Any] = {id(buffer): buffer for buffer in visual.buffers()}
    for parameter in visual.parameters():
        # An inference tensor cannot require gradients: it is cast at each use.
        can_learn = parameter.is_floating_point() and not parameter.is_inference()
        shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=can_learn)
    return copy.deepcopy(visual, shared)


def _mean_over_classes(predicted: Tensor, correct: Tensor, labels: Tensor, num_classes: int) -> tuple[float, float]:
    """Balanced accuracy and macro-F1 over the classes that have images."""
    images, answers, hits = (
        torch.bincount(each, minlength=num_classes).double() for each in (labels, predicted, labels[correct])
    )
    has_images = images > 0
    recall, f1 = hits / images, 2 * hits / (images + answers)
    return float(recall[has_images].mean()), float(f1[has_images].mean())


def _judge(rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of logits [B, C]: the best class, whether it and whether one of five best is the label, loss, top probability."""
    own = rows.gather(1, labels[:, None])
    normaliser = rows.logsumexp(dim=1)
    predicted = rows.argmax(dim=1)
    correct = predicted == labels
    in_top = (rows > own).sum(dim=1) < _TOP
    return predicted, correct, in_top, normaliser - own[:, 0], (rows.amax(dim=1) - normaliser).exp()


def row_chunks(num_rows: int) -> list[tuple[int, int]]:
    """The starts and ends of slices of rows, few enough for their logits to fit into memory."""
    return [(start, min(start + _ROWS_A_CHUNK, num_rows)) for start in range(0, num_rows, _ROWS_A_CHUNK)]
