"""A self-check for a loaded model: fixed images whose features were stored when the version was made."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paint_core.errors import ProbeError
from paint_core.evaluation.scoring import encode
from paint_core.models import BaseModel


def probe_images(image_size: int) -> Tensor:
    """Four colourful patterns, uint8 [4, S, S, 3], by integer arithmetic alone: the same on every machine."""
    index, row, column, channel = np.ogrid[:4, :image_size, :image_size, :3]
    waves = row * (3 + 2 * index + channel) + column * (5 + index * (channel + 1))
    checks = 96 * (((row * 8 // image_size) ^ (column * 8 // image_size) ^ index) & 1)
    return torch.from_numpy(((waves + checks + 53 * channel) % 256).astype(np.uint8))


def probe_features(visual: nn.Module, base: BaseModel) -> Tensor:
    """The unit features of the probe images, float32 [4, D] on the CPU."""
    device = next(visual.parameters()).device
    images = probe_images(base.image_size)
    return F.normalize(encode(visual, images, base.preprocess, device=device), dim=-1).clone().cpu()


def check_probe(features: Tensor, expected: Tensor, minimum_cosine: float = 0.999) -> None:
    """Checks that every probe feature has its former direction.

    Args:
        features: [B, D], unit rows, of the loaded model.
        expected: [B, D], unit rows, stored earlier.
        minimum_cosine: per row; below 1, because devices compute differently.

    Raises:
        ProbeError: another shape, a value that is not finite, or a cosine below the minimum.
    """
    if features.shape != expected.shape:
        raise ProbeError(
            f"probe features are {list(features.shape)}, expected {list(expected.shape)}: load the right base model"
        )
    cosines = (features.double() * expected.double()).sum(dim=-1)
    lowest = float(cosines.min())
    if not lowest >= minimum_cosine:  # also true for NaN
        raise ProbeError(
            f"the model is not the one that was registered (probe cosine {lowest:.6f} < {minimum_cosine}): "
            "check base model and task vectors"
        )
