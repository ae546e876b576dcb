"""The recipe of fine-tuning once more, written down by hand: no optimizer, schedule, loss or sampler of anybody's.

It follows the paper (arXiv 2208.05592, section 2, and the authors' code) and AdamW's (arXiv 1711.05101, algorithm 2).
Only the tower's forward pass and its gradients are torch's.
"""

import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from paint_core.config.finetune import FinetuneConfig
from paint_core.data import LabelledImages
from paint_core.models import BaseModel


@dataclass
class Course:
    """What a run did: the weights at its end, and each step's losses and rate."""

    theta: dict[str, Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    anchor_losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


def finetune_by_hand(
    base: BaseModel,
    head: Tensor,
    images: LabelledImages,
    config: FinetuneConfig,
    *,
    start: Mapping[str, Tensor] | None = None,
    anchors: Tensor | None = None,
    learns: Callable[[str], bool] = lambda name: True,
) -> Course:
    """Train a copy of the tower in whole batches and float32."""
    tower = copy.deepcopy(base.visual).requires_grad_(True).train()
    if start is not None:
        tower.load_state_dict(dict(start))
    held = None if anchors is None else _unit(_features(tower, anchors, base)).detach()
    learning = {name: each for name, each in tower.named_parameters() if learns(name)}
    moments = {name: (torch.zeros_like(each), torch.zeros_like(each)) for name, each in learning.items()}
    course = Course()
    for step in range(config.iterations):
        rows = _rows(step, len(images), config.batch_size, config.seed)
        pictures = torch.stack(_crops(images.images[rows], step, config))
        scores = base.logit_scale * _unit(_features(tower, pictures, base)) @ head.T + base.logit_bias
        loss = _smoothed_cross_entropy(scores, images.labels[rows], config.label_smoothing)
        total = loss
        course.losses.append(float(loss.detach()))
        if anchors is not None and held is not None:
            drawn = _rows(step, len(anchors), config.anchor_batch_size, _seed("anchors", config.seed, 0))
            cosines = (_unit(_features(tower, anchors[drawn], base)) * held[drawn]).sum(dim=1)
            total = loss + config.anchor_weight * (1 - cosines).mean()
            course.anchor_losses.append(float((1 - cosines).mean().detach()))
        course.rates.append(_rate(step, config))
        gradients = torch.autograd.grad(total, list(learning.values()))
        _adamw(learning, moments, _clipped(gradients, config.max_grad_norm), step, config)
    course.theta = {name: tensor.detach() for name, tensor in tower.state_dict().items()}
    return course


def _rate(step: int, config: FinetuneConfig) -> float:
    """The schedule, by cases."""
    if step + 1 <= config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done, whole = step - config.warmup_steps, config.iterations - config.warmup_steps
    return config.learning_rate * math.cos(math.pi / 2 * done / whole) ** 2  # half the cosine of twice the angle


def _adamw(
    learning: Mapping[str, Tensor],
    moments: dict[str, tuple[Tensor, Tensor]],
    gradients: list[Tensor],
    step: int,
    config: FinetuneConfig,
) -> None:
    """One update with the betas 0.9 and 0.999, and eps 1e-8; the decay is not a part of the gradient."""
    rate = _rate(step, config)
    with torch.no_grad():
        for (name, parameter), gradient in zip(learning.items(), gradients, strict=True):
            first, second = moments[name]
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            moments[name] = first, second
            direction = (first / (1 - 0.9 ** (step + 1))) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
            parameter.copy_((1 - rate * config.weight_decay) * parameter - rate * direction)


def _clipped(gradients: tuple[Tensor, ...], most: float) -> list[Tensor]:
    norm = math.sqrt(sum(float((gradient.double() ** 2).sum()) for gradient in gradients))
    return [gradient * min(1.0, most / norm) for gradient in gradients]


def _smoothed_cross_entropy(scores: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """The mean over the batch of -sum(target * log p), where smoothing / C of the target lies on each class."""
    log_p = scores - scores.exp().sum(dim=1, keepdim=True).log()
    target = torch.full_like(scores, smoothing / scores.shape[1])
    target[torch.arange(len(labels)), labels] += 1 - smoothing
    return -(target * log_p).sum(dim=1).mean()


def _features(tower: nn.Module, pictures: Tensor, base: BaseModel) -> Tensor:
    mean, std = (torch.tensor(values) for values in (base.preprocess.mean, base.preprocess.std))
    features: Tensor = tower(((pictures.float() / 255 - mean) / std).permute(0, 3, 1, 2))
    return features


def _unit(features: Tensor) -> Tensor:
    return features / features.square().sum(dim=1, keepdim=True).sqrt()


def _seed(purpose: str, seed: int, index: int) -> int:
    digest = hashlib.blake2b(f"{purpose}:{seed}:{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") // 2


def _rows(step: int, num_images: int, batch_size: int, seed: int) -> Tensor:
    """The next images of an endless row of shuffled epochs."""
    rows: list[int] = []
    for epoch in range((step + 1) * batch_size // num_images + 1):
        source = torch.Generator().manual_seed(_seed("order", seed, epoch))
        rows += torch.randperm(num_images, generator=source).tolist()
    return torch.tensor(rows[step * batch_size : (step + 1) * batch_size])


def _crops(pictures: Tensor, step: int, config: FinetuneConfig) -> list[Tensor]:
    """Each picture's random crop, resized back (torchvision's rule: ten tries, then the whole picture)."""
    source = torch.Generator().manual_seed(_seed("crop", config.seed, step))
    draws = torch.rand(4, 10, len(pictures), generator=source)
    crops = []
    for picture, tries in zip(pictures, draws.permute(2, 1, 0).double().tolist(), strict=True):
        left = top = 0.0
        width = height = 1.0
        for share, skew, x, y in tries:
            area = config.crop_scale[0] + share * (config.crop_scale[1] - config.crop_scale[0])
            ratio = math.exp(math.log(3 / 4) + skew * (math.log(4 / 3) - math.log(3 / 4)))
            if max(area * ratio, area / ratio) <= 1:
                width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
                left, top = x * (1 - width), y * (1 - height)
                break
        size = len(picture)
        rows, columns = _bicubic(size, top, height), _bicubic(size, left, width)
        crop = torch.einsum("ys,xt,stc->yxc", rows, columns, picture.double())
        crops.append(crop.clamp(0, 255).float())
    return crops


def _bicubic(size: int, start: float, length: float) -> Tensor:
    """The matrix [S, S] that resamples a part of a line to the whole line (Keys' kernel, a = -3/4, edges repeated)."""
    matrix = np.zeros((size, size))
    for row in range(size):
        place = size * start + (row + 0.5) * length - 0.5
        for tap in range(math.floor(place) - 1, math.floor(place) + 3):
            far = abs(place - tap)
            near = 1.25 * far**3 - 2.25 * far**2 + 1
            weight = near if far <= 1 else -0.75 * (far**3 - 5 * far**2 + 8 * far - 4)
            matrix[row, min(max(tap, 0), size - 1)] += weight
    return torch.from_numpy(matrix)
