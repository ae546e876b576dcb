"""Pictures to serve, any number of them, each unlike the others."""

import numpy as np
import torch
from torch import Tensor


def patterns(image_size: int, num_images: int) -> Tensor:
    """Colourful patterns, uint8 [N, S, S, 3]."""
    index, row, column, channel = np.ogrid[:num_images, :image_size, :image_size, :3]
    waves = row * (3 + 2 * index + channel) + column * (5 + index * (channel + 1))
    checks = 96 * (((row * 8 // image_size) ^ (column * 8 // image_size) ^ index) & 1)
    return torch.from_numpy(((waves + checks + 53 * channel) % 256).astype(np.uint8))
