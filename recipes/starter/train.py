"""The training run: CLIP's symmetric loss over photographs, pictograms and drawn words, and a teacher's features.

Most steps see small pictures, which cost less; the last ones see pictures of the model's own size (Touvron et al.,
"Fixing the train-test resolution discrepancy", NeurIPS 2019, and Tan and Le, "EfficientNetV2", ICML 2021).

A run is a function of its settings. It stops and starts again at a checkpoint: everything random is drawn from (seed,
step), so no generator is kept. The weights that are exported are an exponential moving average.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from paint_core.config.precision import has_bf16
from paint_core.training.train_state import TrainState, capture, restore
from recipes.starter.batches import Batch, Material, Mix, batches
from recipes.starter.depthwise import speed_up
from recipes.starter.model import EMBED_DIM, SIDE, WEIGHTS_FILE, build_model
from recipes.starter.student import Student

_EMA = 0.999
_MAX_SCALE = 100.0
_LEFT_OUT = -1e4
_DISTILLATION_WEIGHT = 4.0


@dataclass(frozen=True)
class Settings:
    """One training run.

    Attributes:
        tower: One of `model.TOWERS`.
        steps: Optimizer steps.
        batch_size: Pictures a step.
        photo_share: Of them photographs, where there are any.
        word_share: Of them nothing but a word.
        small_side: Pixels a side in the first steps; a ViT, which has a position for each patch, needs the model's own.
        small_share: Of the steps, those with small pictures.
        learning_rate: AdamW's peak.
        warmup_steps: Linear warm-up; a cosine to zero follows.
        weight_decay: On matrices and kernels only.
        drop_path: Stochastic depth, of timm's towers.
        seed: Of everything random.
        device: Where to train.
        start_from: An exported model's folder to begin with in place of fresh weights; empty: none. It needs the same
            tower, and another seed, so that other pictures are drawn than before.
        text_from: An exported model's folder whose text tower is taken and kept as it is; empty: it is trained, too.
            LiT (Zhai et al., CVPR 2022) keeps the image tower in this way.
    """

    tower: str = "convnext_atto"
    steps: int = 20_000
    batch_size: int = 256
    photo_share: float = 0.5
    word_share: float = 0.12
    small_side: int = 48
    small_share: float = 0.72
    learning_rate: float = 1e-3
    warmup_steps: int = 500
    weight_decay: float = 0.1
    drop_path: float = 0.1
    seed: int = 0
    device: str = "cpu"
    start_from: str = ""
    text_from: str = ""

    def side(self, step: int) -> int:
        """Return the pixels a side of a step's pictures."""
        return self.small_side if step < self.small_share * self.steps else SIDE


@dataclass(frozen=True)
class Step:
    """What a step did: steps done, the loss in nats, the logit scale, pictures a second since the last report."""

    step: int
    loss: float
    scale: float
    speed: float


def train(
    material: Material,
    settings: Settings,
    folder: Path,
    *,
    checkpoint_seconds: float = 120.0,
    log_every: int = 50,
    on_step: Callable[[Step], None] = lambda step: None,
) -> dict[str, Tensor]:
    """Return the averaged weights of a whole model, trained now or taken up where the folder's checkpoint stands.

    Args:
        material: What to learn from.
        settings: How.
        folder: Of checkpoint and `log.csv`; one for each run.
        checkpoint_seconds: Least time between two checkpoints.
        log_every: Steps between two reports.
        on_step: Told of every report; may raise to stop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = _student(material, settings)
    if not has_bf16(torch.device(settings.device)):
        speed_up(model)
    model = model.to(settings.device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(_groups(model, settings), lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)
    average = {name: tensor.detach().clone() for name, tensor in model.clip.state_dict().items()}
    first = _resume(folder, model, optimizer, average)
    saved, told, counted = time.monotonic(), time.monotonic(), first
    mix = Mix(settings.batch_size, settings.photo_share, settings.word_share)
    for step, batch in batches(material, mix, settings.seed, settings.side, range(first, settings.steps)):
        with _drawn_from(settings, step):
            loss = _update(model, optimizer, batch.to(settings.device), _rate(step, settings))
        _follow(average, model.clip, step)
        # Before the report: a caller who stops there loses nothing.
        if time.monotonic() - saved > checkpoint_seconds or step + 1 == settings.steps:
            _save(folder, model, optimizer, average, step + 1)
            saved = time.monotonic()
        if (step + 1) % log_every == 0 or step + 1 == settings.steps:
            now = time.monotonic()
            speed = (step + 1 - counted) * settings.batch_size / (now - told)
            done = Step(step + 1, float(loss), float(model.clip.logit_scale.detach().exp()), speed)
            _log(folder / "log.csv", done)
            on_step(done)
            told, counted = time.monotonic(), step + 1
    return average


def _student(material: Material, settings: Settings) -> Student:
    clip = build_model(settings.tower, settings.seed, settings.drop_path)
    if settings.start_from:
        clip.load_state_dict(load_file(Path(settings.start_from) / WEIGHTS_FILE))
    if settings.text_from:
        stored = load_file(Path(settings.text_from) / WEIGHTS_FILE)
        text = {name.removeprefix("text."): tensor for name, tensor in stored.items() if name.startswith("text.")}
        clip.text.load_state_dict(text)
        clip.text.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return Student(clip, EMBED_DIM, material.num_teacher_features)


@contextmanager
def _drawn_from(settings: Settings, step: int) -> Iterator[None]:
    """What layers draw while the context lasts (stochastic depth) is a function of (seed, step), too."""
    is_cuda = torch.device(settings.device).type == "cuda"
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if is_cuda else []):
        torch.manual_seed(int(np.random.default_rng([settings.seed, step, 1]).integers(2**62)))
        yield


def _update(model: Student, optimizer: torch.optim.Optimizer, batch: Batch, rate: float) -> Tensor:
    for group in optimizer.param_groups:
        group["lr"] = rate
    device = batch.pixels.device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_bf16(device)):
        images, texts, distillation = model(batch)
    loss = _contrast(images, texts, model.clip.logit_scale, batch) + _DISTILLATION_WEIGHT * distillation
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        model.clip.logit_scale.clamp_(0, math.log(_MAX_SCALE))
    return loss.detach()


def _contrast(images: Tensor, texts: Tensor, log_scale: Tensor, batch: Batch) -> Tensor:
    """CLIP's loss; what is true of a picture in other words is left out of the sums."""
    scores = (log_scale.exp() * images @ texts.T).masked_fill(batch.is_true & ~batch.is_own, _LEFT_OUT)
    own = batch.is_own.float()
    to_texts, to_images = own / own.sum(dim=1, keepdim=True), own.T / own.sum(dim=0).unsqueeze(1)
    return (F.cross_entropy(scores, to_texts) + F.cross_entropy(scores.T, to_images)) / 2


def _rate(step: int, settings: Settings) -> float:
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def _groups(model: nn.Module, settings: Settings) -> list[dict[str, object]]:
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]


@torch.no_grad()
def _follow(average: dict[str, Tensor], model: nn.Module, step: int) -> None:
    """Move the average towards the weights; at first faster, so that it does not remember where they started."""
    decay = min(_EMA, (step + 1) / (step + 10))
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            average[name].lerp_(tensor, 1 - decay)
        else:
            average[name].copy_(tensor)


def _resume(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]) -> int:
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return 0
    state = TrainState.from_bytes(path.read_bytes())
    stored = load_file(folder / f"average-{state.step}.safetensors")
    for name, tensor in average.items():
        tensor.copy_(stored[name])
    return restore(model, optimizer, state)


def _save(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor], step: int
) -> None:
    """Write the average first and the checkpoint that names it second, each whole or not at all."""
    save_file({name: tensor.contiguous() for name, tensor in average.items()}, folder / f"average-{step}.safetensors")
    partial = folder / "checkpoint.partial"
    partial.write_bytes(capture(model, optimizer, step).to_bytes())
    partial.replace(folder / "checkpoint.safetensors")
    for old in folder.glob("average-*.safetensors"):
        if old.name != f"average-{step}.safetensors":
            old.unlink()


def _log(path: Path, done: Step) -> None:
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(["step", "loss", "logit_scale", "pictures_per_second"])
        writer.writerow([done.step, f"{done.loss:.4f}", f"{done.scale:.2f}", f"{done.speed:.0f}"])
