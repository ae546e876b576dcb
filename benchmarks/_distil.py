"""A second image tower with meaning: it learns the starter's features on the bundled unlabelled pictograms.

Distillation as in Hinton et al. (arXiv 1503.02531), of features as in FitNets (arXiv 1412.6550), by their cosine.

Every step draws new pictures: pictograms cut out of their background, moved, turned, scaled, tinted, set on a new
background, some of them two at a time. Pictures of the supported tasks take no part.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from _pictograms import cut_out, sources
from PIL import Image
from torch import Tensor, nn

from paint_core.models import BaseModel

STEPS = 2400
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
_WARMUP = 100
_WEIGHT_DECAY = 0.05
_PATCHES_DROPPED = 0.5  # halves a step, and augments (arXiv 2212.00794); the last quarter sees every patch
_WHOLE_FROM = 0.75
_SEED = 0
_REPORT_EVERY = 100


def distil(visual: nn.Module, teacher: BaseModel, *, steps: int = STEPS) -> None:
    """Train `visual`, a transformer of open_clip, to point where the teacher's image tower points.

    Args:
        visual: changed in place; in eval mode afterwards.
        teacher: with the same embedding and preprocessing.
        steps: of AdamW.
    """
    generator = torch.Generator().manual_seed(_SEED)
    pool = load_pool()
    optimizer = torch.optim.AdamW(visual.parameters(), lr=LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    started, visual = time.perf_counter(), visual.train()
    for step in range(steps):
        pixels = teacher.preprocess.normalise(draw_pictures(pool, BATCH_SIZE, generator))
        loss = _step(visual, teacher, pixels, whole=step >= _WHOLE_FROM * steps, generator=generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(visual.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % _REPORT_EVERY == 0 or step + 1 == steps:
            cosine = 1 - float(loss.detach())
            print(f"step {step + 1}/{steps}: cosine {cosine:.3f}, {time.perf_counter() - started:.0f} s", flush=True)
    visual.eval()


def load_pool() -> Tensor:
    """Return the bundled pictograms, cut out and centred: float32 [M, 4, 64, 64] in 0..1, colours then coverage."""
    pool = []
    for name in [name for split in ("train", "validation", "test") for name in sources(split)]:
        canvas = Image.new("RGBA", (64, 64))
        picture = cut_out(name)
        canvas.paste(picture, ((64 - picture.width) // 2, (64 - picture.height) // 2))
        pool.append(np.array(canvas))
    return torch.from_numpy(np.stack(pool)).permute(0, 3, 1, 2).float().div(255)


def draw_pictures(pool: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return new pictures, float32 [count, 64, 64, 3] in 0..255.

    Args:
        pool: From `load_pool`.
        count: How many.
        generator: Of all that is random.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    white = uniform(0, 1, 1, 1, 1) < 0.5
    canvas = torch.where(white, torch.ones(()), uniform(0.45, 1, 3, 1, 1)).expand(count, 3, 64, 64)
    has_second = uniform(0, 1, 1, 1, 1) < 0.3
    for is_drawn in (torch.ones_like(has_second), has_second):
        chosen = pool[torch.randint(len(pool), (count,), generator=generator)]
        moved = _move(chosen, uniform(0.55, 1.2), uniform(-0.35, 0.35), uniform(-0.35, 0.35, 2), uniform(-1, 1))
        coverage = moved[:, 3:] * is_drawn
        canvas = canvas * (1 - coverage) + _tint(moved[:, :3], uniform(0, 1), uniform(0.7, 1.2, 3, 1, 1)) * coverage
    return canvas.clamp(0, 1).permute(0, 2, 3, 1) * 255


def _step(visual: nn.Module, teacher: BaseModel, pixels: Tensor, *, whole: bool, generator: torch.Generator) -> Tensor:
    with torch.no_grad():
        wanted = teacher.visual(pixels.contiguous(memory_format=torch.channels_last)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = _forward(visual, pixels, None if whole else generator)
    return 1 - F.cosine_similarity(features.float(), wanted).mean()


def _forward(visual: nn.Module, pixels: Tensor, generator: torch.Generator | None) -> Tensor:
    """The features; with a generator, from a random part of the patches."""
    if generator is None:
        return visual(pixels)
    tokens = visual._embeds(pixels)
    count, length = len(tokens), tokens.shape[1] - 1
    order = torch.rand(count, length, generator=generator).argsort(dim=1)[:, : round(length * (1 - _PATCHES_DROPPED))]
    kept = tokens[:, 1:].gather(1, order.unsqueeze(-1).expand(-1, -1, tokens.shape[2]))
    tokens = visual.transformer(torch.cat([tokens[:, :1], kept], dim=1))
    return visual._pool(tokens)[0] @ visual.proj


def _rate(step: int, steps: int) -> float:
    """A linear rise, then half a cosine."""
    if step < _WARMUP:
        return (step + 1) / _WARMUP
    return 0.5 * (1 + math.cos(math.pi * (step - _WARMUP) / max(1, steps - _WARMUP)))


def _move(pictures: Tensor, scale: Tensor, angle: Tensor, shift: Tensor, side: Tensor) -> Tensor:
    """The pictures scaled, turned (radians), shifted (half sides), and flipped where `side` is negative."""
    sine, cosine = angle.sin() / scale, angle.cos() / scale
    flip = torch.where(side < 0, -1.0, 1.0)
    rows = [torch.stack([cosine * flip, -sine * flip, shift[:, 0]], 1), torch.stack([sine, cosine, shift[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", align_corners=False)


def _tint(colours: Tensor, draw: Tensor, gain: Tensor) -> Tensor:
    """The colours, for a part of the pictures with channels swapped, scaled or taken out."""
    draw = draw.view(-1, 1, 1, 1)
    grey = colours.mean(dim=1, keepdim=True).expand_as(colours)
    changed = torch.where(draw < 0.1, colours.roll(1, dims=1), torch.where(draw < 0.2, grey, colours))
    return torch.where(draw < 0.5, changed * gain, changed)
