"""How large batches are, and how long they wait on a GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from app.serving.model import MAX_BATCH_IMAGES, Model

_SLOW_IMAGE_SECONDS = 0.005
_MAX_BATCH_SECONDS = 0.8
"""Of one core, for more than one image: other requests wait meanwhile, and larger batches are hardly more efficient."""


@dataclass(frozen=True)
class BatchPolicy:
    """How large batches are, and how long they wait (`docs/decisions/0019-the-engines-shape.md`).

    Attributes:
        max_images: Images per batch, at most; fewer of a model that is slow on a CPU.
        quick_images: Images per batch of a model that is quick on a CPU, at most; None: `max_images`. With batches of
            32, all clients of a closed loop are answered at once, and the cores idle until their next requests arrive.
        num_cores: CPU cores that decode and forward; 0: a GPU forwards, and the CPU only decodes.
        wait_seconds: GPU: how long decoded images may wait for others that are still being decoded.
        max_large: Large images that are decoded at the same time while small images are waiting or arrived recently.
    """

    max_images: int = MAX_BATCH_IMAGES
    quick_images: int | None = None
    num_cores: int = 0
    wait_seconds: float = 0.0
    max_large: int = 1

    @classmethod
    def for_device(
        cls, device: torch.device, num_cores: int, max_images: int | None = None, wait_ms: float | None = None
    ) -> BatchPolicy:
        """Return the policy for a device; `None` chooses the default of the device."""
        max_large = max(1, num_cores // 2)
        if device.type != "cpu":
            return cls(max_images or MAX_BATCH_IMAGES, wait_seconds=(wait_ms or 0.0) / 1000, max_large=max_large)
        return cls(max_images or 32, quick_images=16, num_cores=num_cores, max_large=max_large)

    def max_batch(self, model: Model) -> int:
        """Return how many images of a model a batch holds at most."""
        seconds = model.runner.image_seconds
        if not self.num_cores:
            return self.max_images
        if seconds < _SLOW_IMAGE_SECONDS or math.isinf(seconds):
            return min(self.max_images, self.quick_images or self.max_images)
        return min(self.max_images, max(1, round(_MAX_BATCH_SECONDS / seconds)))
