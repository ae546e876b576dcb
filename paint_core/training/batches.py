"""The batches of a fine-tuning run: from decoded images to what the tower reads, as a function of (seed, step)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from paint_core.config.finetune import FinetuneConfig
from paint_core.data import LabelledImages
from paint_core.images.preprocess import Preprocess
from paint_core.runtime.randomness import batch_indices, crop_boxes, derive_seed, generator, resize_crops
from paint_core.training.class_balance import ClassSampler, loss_weights
from paint_core.training.distributed import World


@dataclass(frozen=True, eq=False)
class AnchorPool:
    """Anchor images and their targets.

    Attributes:
        images: uint8 [M, S, S, 3].
        targets: [M, ...], from an `AnchorLoss`, on the device of the run.
    """

    images: Tensor
    targets: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """One micro-batch of one process, on the device.

    Attributes:
        pixels: float32 [B, 3, S, S], normalised.
        labels: int64 [B].
        anchor_pixels: float32 [A, 3, S, S], or None without anchors.
        anchor_targets: [A, ...], or None without anchors.
        weights: float32 [B], of the images' losses; None: all 1.
    """

    pixels: Tensor
    labels: Tensor
    anchor_pixels: Tensor | None = None
    anchor_targets: Tensor | None = None
    weights: Tensor | None = None


@dataclass(frozen=True, eq=False)
class BatchSource:
    """Draws the batches of a run.

    Attributes:
        anchors: the pool, or None.
        world: the processes that share each batch.
        memory_format: layout of the pixels, from `tower.memory_format_of`.
    """

    images: LabelledImages
    anchors: AnchorPool | None
    preprocess: Preprocess
    config: FinetuneConfig
    world: World
    device: torch.device
    memory_format: torch.memory_format = torch.channels_last

    def of_step(self, step: int) -> Iterator[Batch]:
        """This process's micro-batches of a step, `accumulation_steps` of them."""
        config, pieces = self.config, self.config.accumulation_steps
        share = self.world.share(config.batch_size, "batch_size", pieces)
        indices = self._indices(step)[share].chunk(pieces)
        boxes = crop_boxes(config.batch_size, config.crop_scale, generator("crop", config.seed, step))[share]
        held = self._anchor_indices(step).chunk(pieces) if self.anchors is not None else [None] * pieces
        for own, own_boxes, own_held in zip(indices, boxes.chunk(pieces), held, strict=True):
            yield self._batch(own, own_boxes, own_held)

    def _indices(self, step: int) -> Tensor:
        config = self.config
        if self._sampler is None:
            return batch_indices(step, len(self.images), config.batch_size, config.seed)
        return self._sampler.indices(step, config.batch_size, config.seed)

    @cached_property
    def _sampler(self) -> ClassSampler | None:
        is_balanced = self.config.class_balance == "sampling"
        return ClassSampler.of(self.images.labels, self.config.seed) if is_balanced else None

    @cached_property
    def _weights(self) -> Tensor | None:
        return loss_weights(self.images.labels) if self.config.class_balance == "loss" else None

    def _anchor_indices(self, step: int) -> Tensor:
        assert self.anchors is not None
        size = self.config.anchor_batch_size
        drawn = batch_indices(step, len(self.anchors.images), size, derive_seed("anchors", self.config.seed, 0))
        return drawn[self.world.share(size, "anchor_batch_size", self.config.accumulation_steps)]

    def _batch(self, indices: Tensor, boxes: Tensor, held: Tensor | None) -> Batch:
        pictures = self._gather(self.images.images, indices)
        if self.config.crop_scale != (1.0, 1.0):
            pictures = resize_crops(pictures, boxes)
        labels = self.images.labels[indices.to(self.images.labels.device)].to(self.device)
        weights = self._weights
        if weights is not None:
            weights = weights[indices.to(weights.device)].to(self.device)
        if held is None or self.anchors is None:
            return Batch(self._pixels(pictures), labels, weights=weights)
        whole = self._gather(self.anchors.images, held)
        targets = self.anchors.targets[held.to(self.anchors.targets.device)]
        return Batch(self._pixels(pictures), labels, self._pixels(whole), targets, weights)

    def _gather(self, images: Tensor, indices: Tensor) -> Tensor:
        chosen = images[indices.to(images.device)]
        if self.device.type == "cuda" and chosen.device.type == "cpu":
            return chosen.pin_memory().to(self.device, non_blocking=True)
        return chosen.to(self.device)

    def _pixels(self, pictures: Tensor) -> Tensor:
        return self.preprocess.normalise(pictures).contiguous(memory_format=self.memory_format)


def on_device(images: Tensor, device: torch.device) -> Tensor:
    """The images on the device if they take less than half of its free memory, else where they are."""
    if device.type != "cuda" or images.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
        return images
    return images.to(device)
