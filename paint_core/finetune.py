"""Fine-tuning an image tower against a frozen zero-shot head (PAINT, arXiv 2208.05592, section 2).

Only the image tower learns, so the model stays open-vocabulary. Everything random is a function of (seed, step): a run
that resumes from a `TrainState` ends, on a CPU, with the bits of one that was never interrupted.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paint_core.datasets import LabelledImages
from paint_core.errors import DatasetError, NonFiniteLossError
from paint_core.evaluation import autocast
from paint_core.finetune_config import FinetuneConfig
from paint_core.heads import logits
from paint_core.models import BaseModel
from paint_core.randomness import batch_indices, derive_seed, generator, random_resized_crop
from paint_core.train_state import TrainState, capture, restore

__all__ = ["FinetuneConfig", "StepReport", "TrainState", "finetune", "learning_rate_at"]


@dataclass(frozen=True)
class StepReport:
    """What one step did.

    Attributes:
        step: steps done, 1..total.
        total: `iterations`.
        loss: cross-entropy of the batch, in nats.
        learning_rate: that the step used.
        images_per_second: mean since this call began.
    """

    step: int
    total: int
    loss: float
    learning_rate: float
    images_per_second: float


def finetune(
    base: BaseModel,
    head: Tensor,
    images: LabelledImages,
    config: FinetuneConfig,
    *,
    device: torch.device | str = "cpu",
    state: TrainState | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    checkpoint_every: int | Callable[[int], bool] | None = None,
    on_checkpoint: Callable[[TrainState], None] | None = None,
) -> dict[str, Tensor]:
    """The fine-tuned weights theta_1 of the image tower.

    Cross-entropy of `logit_scale * cosine` under the frozen head; AdamW; linear warm-up, then cosine to zero; gradients
    clipped. The base is not changed.

    Args:
        base: theta_0.
        head: [C, D], from `build_head` of the same base; not trained.
        images: the training split; its labels index the head's rows.
        config: how.
        device: where to train.
        state: to resume from; None starts at theta_0.
        on_step: called after every step; may raise to stop.
        checkpoint_every: steps between checkpoints, or a rule that is asked after each step (by the clock, say); None
            makes none.
        on_checkpoint: receives each checkpoint, also the last step's; may raise to stop.

    Returns:
        The image tower's state dict: fresh float32 tensors on the CPU.

    Raises:
        DatasetError: labels do not index the head's rows.
        NonFiniteLossError: the loss is NaN or infinite.
        WeightsMismatchError: `state` belongs to another model.
    """
    if int(images.labels.max()) >= len(head):
        raise DatasetError(f"a label is {int(images.labels.max())}, the head has {len(head)} rows: rebuild the head")
    device = torch.device(device)
    visual = _trainable_copy(base.visual, device)
    optimizer = torch.optim.AdamW(
        visual.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    first = restore(visual, optimizer, state) if state is not None else 0
    # Cloned, because a tensor made under inference_mode cannot take part in a backward pass.
    run = _Run(base, visual, optimizer, head.detach().clone().to(device), _cache(images, device), config)
    start = time.perf_counter()
    for step in range(first, config.iterations):
        loss = run.step(step)
        if on_step is not None:
            speed = (step + 1 - first) * config.batch_size / (time.perf_counter() - start)
            on_step(StepReport(step + 1, config.iterations, loss, learning_rate_at(step, config), speed))
        if on_checkpoint is not None and _is_due(checkpoint_every, step + 1):
            on_checkpoint(capture(visual, optimizer, step + 1))
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in visual.state_dict().items()}


def learning_rate_at(step: int, config: FinetuneConfig) -> float:
    """The rate of one step: a linear rise over the warm-up steps, then half a cosine to zero.

    Args:
        step: counted from 0.
        config: `learning_rate`, `warmup_steps`, `iterations`.

    Returns:
        A rate in (0, learning_rate].
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / (config.iterations - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, eq=False)
class _Run:
    """What every step needs; `visual` and `optimizer` are this run's own."""

    base: BaseModel
    visual: nn.Module
    optimizer: torch.optim.Optimizer
    head: Tensor
    images: LabelledImages
    config: FinetuneConfig

    def step(self, step: int) -> float:
        """The loss of the batch, after one update on it."""
        config, device = self.config, self.head.device
        pixels, labels = self._batch(step)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(derive_seed("layers", config.seed, step))  # dropout and its like
            with autocast(device, config.precision):
                features = self.visual(pixels)
            loss = F.cross_entropy(logits(features, self.head, self.base.logit_scale, self.base.logit_bias), labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NonFiniteLossError(step + 1)
        self._update(loss, learning_rate_at(step, config))
        return value

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        config, device, cache = self.config, self.head.device, self.images
        indices = batch_indices(step, len(cache), config.batch_size, config.seed).to(cache.images.device)
        pictures = cache.images[indices].to(device)
        crops = random_resized_crop(pictures, config.crop_scale, generator("crop", config.seed, step))
        pixels = self.base.preprocess.normalise(crops)
        return pixels.contiguous(memory_format=torch.channels_last), cache.labels[indices].to(device)

    def _update(self, loss: Tensor, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.visual.parameters(), self.config.max_grad_norm)
        self.optimizer.step()


def _is_due(every: int | Callable[[int], bool] | None, step: int) -> bool:
    if every is None:
        return False
    return every(step) if callable(every) else step % every == 0


def _trainable_copy(visual: nn.Module, device: torch.device) -> nn.Module:
    """A copy that learns. Channels-last is worth about a quarter of a step on a CPU, for the starter."""
    clone = copy.deepcopy(visual).to(device)
    clone = clone.to(memory_format=torch.channels_last)
    return clone.train().requires_grad_(True)


def _cache(images: LabelledImages, device: torch.device) -> LabelledImages:
    """The images on the device if they take less than half of its free memory, else where they are."""
    if device.type != "cuda" or images.images.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
        return images
    return LabelledImages(images.images.to(device), images.labels.to(device), images.classnames)
