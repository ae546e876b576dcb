"""Fine-tuning an image tower against a frozen zero-shot head (PAINT, arXiv 2208.05592, section 2).

Only the image tower learns, so the model stays open-vocabulary. Everything random is a function of (seed, step): a run
that resumes from a `TrainState` ends, on a CPU, with the bits of one that was never interrupted.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paint_core.config.finetune import FinetuneConfig
from paint_core.config.precision import Precision, resolve_precision
from paint_core.data import LabelledImages
from paint_core.data.datasets import require_size
from paint_core.errors import ConfigError, DatasetError, NonFiniteLossError
from paint_core.evaluation import encode
from paint_core.models import BaseModel
from paint_core.models.heads import require_head
from paint_core.runtime.arguments import require_device, require_type
from paint_core.runtime.randomness import derive_seed
from paint_core.training.anchoring import FEATURE_ANCHOR, AnchorLoss, require_anchors
from paint_core.training.batches import AnchorPool, Batch, BatchSource, on_device
from paint_core.training.determinism import deterministic_algorithms
from paint_core.training.distributed import World
from paint_core.training.early_stopping import EarlyStopping, put_back
from paint_core.training.objective import Objective
from paint_core.training.tower import TrainableTower
from paint_core.training.train_state import TrainState, best_of, capture, restore


@dataclass(frozen=True)
class StepReport:
    """The results of one step.

    Attributes:
        step: steps done, 1..total.
        total: `iterations`.
        loss: cross-entropy of the batch, in nats.
        learning_rate: that the step used.
        images_per_second: labelled images, mean since this call began.
        anchor_loss: of the step's anchors, before `anchor_weight` (mean 1 - cosine); None without anchors.
        validation_accuracy: in [0, 1], after steps at which early stopping looks; else None.
    """

    step: int
    total: int
    loss: float
    learning_rate: float
    images_per_second: float
    anchor_loss: float | None = None
    validation_accuracy: float | None = None


def finetune(
    base: BaseModel,
    head: Tensor,
    images: LabelledImages,
    config: FinetuneConfig,
    *,
    start: Mapping[str, Tensor] | None = None,
    anchors: Tensor | None = None,
    anchor_loss: AnchorLoss = FEATURE_ANCHOR,
    validation: LabelledImages | None = None,
    device: torch.device | str = "cpu",
    state: TrainState | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    checkpoint_every: int | Callable[[int], bool] | None = None,
    on_checkpoint: Callable[[TrainState], None] | None = None,
) -> dict[str, Tensor]:
    """The fine-tuned weights theta_1 of the image tower.

    Cross-entropy of `logit_scale * cosine` under the frozen head, and the anchor loss if requested; AdamW; linear
    warm-up, then cosine to zero; gradients clipped. The base is not changed. Every process of an initialised
    `torch.distributed` group calls it with the same arguments (see `distributed.py`).

    Args:
        head: [C, D], from `build_head` of the same base; not trained.
        images: the training split; its labels index the head's rows.
        start: initial weights of the image tower, also the reference of the anchors; None means theta_0.
        anchors: uint8 [M, S, S, 3], images without labels; given if and only if `anchor_weight` is above 0. Remove
            evaluation images with `drop_evaluation_images`.
        anchor_loss: form of the anchor loss.
        validation: images that early stopping looks at, labelled as `images`; given if and only if `patience` is.
        state: to resume from; None starts at the beginning.
        on_step: called after every step, in rank 0 only; may raise to stop.
        checkpoint_every: steps between checkpoints, or a function that is called after each step, for example to check
            the time; None makes none.
        on_checkpoint: receives each checkpoint, also the last step's, in rank 0 only; may raise to stop.

    Returns:
        The image tower's state dict: new float32 tensors on the CPU. The start plus their task vector reproduces them
        bit for bit.

    Raises:
        ArgumentError: an argument has the wrong type.
        ConfigError: the config does not fit the tower, the device, the number of processes or the anchors, or this
            machine has no such device.
        DatasetError: labels do not index the head's rows, or images or anchors are not what the tower reads.
        HeadError: the head is not of this model, or its rows are not of unit length.
        NonFiniteLossError: the loss or the gradient is NaN or infinite.
        WeightsMismatchError: `start` or `state` belongs to another model.
    """
    _require_usable(base, head, images, config, anchors)
    stopping = _early_stopping(base, head, validation, config)
    device = require_device(device)
    precision = resolve_precision(config.precision, device)
    with deterministic_algorithms(config.deterministic, device):
        tower = TrainableTower(base.visual, start, config, device)
        optimizer = torch.optim.AdamW(
            tower.learning(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        # What anchors hold is how the start sees them, so it is computed before a resume overwrites the weights.
        pool = None if anchors is None else _anchor_pool(base, tower.visual, anchors, anchor_loss, precision)
        first = restore(tower.visual, optimizer, state) if state is not None else 0
        if stopping is not None and state is not None:
            stopping.resume(best_of(state), first)
        world = World.current()
        cache = LabelledImages(on_device(images.images, device), images.labels, images.classnames)
        source = BatchSource(cache, pool, base.preprocess, config, world, device, tower.memory_format)
        objective = Objective(base, tower.visual, head, anchor_loss, config, precision)
        module = world.wrap(objective, lambda: sum(objective(next(source.of_step(0)))), device)
        run = _Run(module, tower, optimizer, source, config, world, stopping)
        for report in run.steps(first):
            if on_step is not None and world.rank == 0:
                on_step(report)
            if on_checkpoint is not None and world.rank == 0 and _is_due(checkpoint_every, report.step):
                best = None if stopping is None else stopping.best
                on_checkpoint(capture(tower.visual, optimizer, report.step, best))
        if stopping is not None and stopping.best is not None:
            put_back(tower.visual, stopping.best.theta)
        world.agree(tower.visual.state_dict().values())
        return tower.weights()


def learning_rate_at(step: int, config: FinetuneConfig) -> float:
    """The rate of one step, counted from 0: a linear rise over the warm-up steps, then half a cosine to zero."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / (config.iterations - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def _require_usable(
    base: BaseModel, head: Tensor, images: LabelledImages, config: FinetuneConfig, anchors: Tensor | None
) -> None:
    require_type("base", base, BaseModel, "pass the model that load_base gives")
    require_head(head, base.embed_dim)
    require_type("images", images, LabelledImages, "pass a training split, such as load_image_folder gives")
    require_type("config", config, FinetuneConfig, "pass a FinetuneConfig, or base.finetune_defaults")
    require_size(images.images, base.image_size)
    if int(images.labels.max()) >= len(head):
        raise DatasetError(f"a label is {int(images.labels.max())}, the head has {len(head)} rows: rebuild the head")
    if config.anchor_weight > 0 and anchors is None:
        raise ConfigError(
            f"anchor_weight is {config.anchor_weight}, but there are no anchors: give some, or set it to 0"
        )
    if config.anchor_weight == 0 and anchors is not None:
        raise ConfigError("anchors are given, but anchor_weight is 0: set it (20 suits the starter), or omit them")
    if anchors is not None:
        require_anchors(anchors, base.image_size)


def _early_stopping(
    base: BaseModel, head: Tensor, validation: LabelledImages | None, config: FinetuneConfig
) -> EarlyStopping | None:
    if config.patience is None and validation is None:
        return None
    if config.patience is None or validation is None:
        raise ConfigError("early stopping needs both patience and validation images: give both or neither")
    require_size(validation.images, base.image_size)
    return EarlyStopping(base, head, validation, config)


def _anchor_pool(
    base: BaseModel, visual: nn.Module, anchors: Tensor, anchor_loss: AnchorLoss, precision: Precision
) -> AnchorPool:
    device = next(visual.parameters()).device
    features = encode(visual, anchors, base.preprocess, device=device, precision=precision)
    # Cloned, because a tensor made under inference_mode cannot take part in a backward pass.
    return AnchorPool(on_device(anchors, device), anchor_loss.targets(features.clone()))


@dataclass(frozen=True, eq=False)
class _Run:
    """What every step needs; the tower and the optimizer are this run's own."""

    objective: nn.Module
    tower: TrainableTower
    optimizer: torch.optim.Optimizer
    source: BatchSource
    config: FinetuneConfig
    world: World
    stopping: EarlyStopping | None

    def steps(self, first: int) -> Iterator[StepReport]:
        """A report after each step from `first` on, until early stopping ends the run."""
        stopping = self.stopping
        if stopping is not None and stopping.is_over:
            return
        config, start = self.config, time.perf_counter()
        batches = list(self.source.of_step(first)) if first < config.iterations else []
        for step in range(first, config.iterations):
            values = self._update(step, batches)
            # Drawn while a GPU still works on this step.
            batches = list(self.source.of_step(step + 1)) if step + 1 < config.iterations else []
            loss, anchor_loss = self._finite(values, step)
            speed = (step + 1 - first) * config.batch_size / (time.perf_counter() - start)
            held = anchor_loss if self.source.anchors is not None else None
            accuracy = None
            if stopping is not None and stopping.is_due(step + 1):
                accuracy = stopping.look(self.tower.visual, step + 1)
            yield StepReport(step + 1, config.iterations, loss, learning_rate_at(step, config), speed, held, accuracy)
            if stopping is not None and stopping.is_over:
                return

    def _update(self, step: int, batches: Sequence[Batch]) -> Tensor:
        """Cross-entropy, anchor loss and the gradient's norm [3], not waited for, after one update."""
        rate = learning_rate_at(step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        losses = self._accumulate(step, batches)
        norm = torch.nn.utils.clip_grad_norm_(self.tower.learning(), self.config.max_grad_norm)
        self.optimizer.step()
        return torch.cat([losses, norm.detach().reshape(1)])

    def _accumulate(self, step: int, batches: Sequence[Batch]) -> Tensor:
        """The mean losses [2] over this process's micro-batches, after their backward passes."""
        config, device = self.config, self.source.device
        means = torch.zeros(2, device=device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            # For dropout and its like.
            torch.manual_seed(derive_seed("layers", config.seed, step * self.world.size + self.world.rank))
            for index, batch in enumerate(batches):
                with self.world.averaging(self.objective, now=index == len(batches) - 1):
                    loss, anchor_loss = self.objective(batch)
                    total = loss if batch.anchor_pixels is None else loss + config.anchor_weight * anchor_loss
                    (total / len(batches)).backward()
                means += torch.stack([loss.detach(), anchor_loss.detach()]) / len(batches)
        return means

    def _finite(self, values: Tensor, step: int) -> tuple[float, float]:
        """The losses as numbers: the one wait for the device in a step. After a bad update, the run ends here."""
        loss, anchor_loss, norm = self.world.mean(values).tolist()
        for value, cause in ((loss, "loss"), (anchor_loss, "anchor loss"), (norm, "gradient's norm")):
            if not math.isfinite(value):
                raise NonFiniteLossError(step + 1, cause)
        return loss, anchor_loss


def _is_due(every: int | Callable[[int], bool] | None, step: int) -> bool:
    if every is None:
        return False
    return every(step) if callable(every) else step % every == 0
