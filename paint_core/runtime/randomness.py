"""Everything random in fine-tuning, as pure functions of (seed, position): a resume needs no generator state."""

import hashlib
import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_TRIES = 10  # as in torchvision's RandomResizedCrop
_LOG_RATIO = (math.log(3 / 4), math.log(4 / 3))


def derive_seed(purpose: str, seed: int, index: int) -> int:
    """A seed in [0, 2^63) that shares nothing visible with those of other purposes, seeds and indices."""
    digest = hashlib.blake2b(f"{purpose}:{seed}:{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(purpose: str, seed: int, index: int) -> torch.Generator:
    """A fresh CPU generator seeded with `derive_seed`; the same on every machine."""
    return torch.Generator().manual_seed(derive_seed(purpose, seed, index))


def batch_indices(step: int, num_images: int, batch_size: int, seed: int) -> Tensor:
    """The images of one step, int64 [B]: a window of the endless sequence of one permutation per epoch.

    A batch may span two epochs, so no image is ever dropped.
    """
    start, stop = step * batch_size, (step + 1) * batch_size
    parts = []
    for epoch in range(start // num_images, (stop - 1) // num_images + 1):
        offset = epoch * num_images
        order = _epoch_order(epoch, num_images, seed)
        parts.append(order[max(0, start - offset) : stop - offset])
    return torch.cat(parts)


@lru_cache(maxsize=2)
def _epoch_order(epoch: int, num_images: int, seed: int) -> Tensor:
    return torch.randperm(num_images, generator=generator("order", seed, epoch))


def resize_crops(images: Tensor, boxes: Tensor) -> Tensor:
    """The images' crops, resized back to their size by bicubic interpolation.

    Args:
        boxes: [B, 4], from `crop_boxes`.

    Returns:
        float32 [B, S, S, 3] in 0..255 on the images' device.
    """
    batch, boxes = images.to(torch.float32), boxes.to(images.device)
    width, height, left, top = boxes.unbind(dim=1)
    size = images.shape[1]
    centres = torch.linspace(1 / size - 1, 1 - 1 / size, size, device=images.device)
    # No box is turned, so a row shares its y and a column its x: `affine_grid` would multiply matrices for that.
    x = torch.outer(width, centres) + (2 * left + width - 1)[:, None]
    y = torch.outer(height, centres) + (2 * top + height - 1)[:, None]
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=-1)
    planes = batch.permute(0, 3, 1, 2)
    crops = F.grid_sample(planes, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return crops.clamp_(0, 255).permute(0, 2, 3, 1)


def crop_boxes(num_images: int, scale: tuple[float, float], source: torch.Generator) -> Tensor:
    """One random box per image: width, height, left, top as shares of the image's side.

    The rule is that of torchvision's RandomResizedCrop, for the whole batch at once: areas are uniform in `scale`,
    aspect ratios log-uniform in 3/4..4/3, ten tries for a box that fits, then the whole image. Boxes lie at
    real-valued positions.

    Args:
        scale: range of areas, 0 < low <= high <= 1.
        source: CPU generator.

    Returns:
        float32 [B, 4] in [0, 1], on the CPU.
    """
    draws = torch.rand(4, _TRIES, num_images, generator=source)
    area = scale[0] + (scale[1] - scale[0]) * draws[0]
    ratio = torch.exp(_LOG_RATIO[0] + (_LOG_RATIO[1] - _LOG_RATIO[0]) * draws[1])
    width, height = torch.sqrt(area * ratio), torch.sqrt(area / ratio)
    fits = (width <= 1) & (height <= 1)
    boxes = torch.stack([width, height, (1 - width) * draws[2], (1 - height) * draws[3]], dim=-1)
    first = fits.int().argmax(dim=0)
    chosen = boxes[first, torch.arange(num_images)]
    whole = torch.tensor([1.0, 1.0, 0.0, 0.0])
    return torch.where(fits.any(dim=0).unsqueeze(1), chosen, whole)
