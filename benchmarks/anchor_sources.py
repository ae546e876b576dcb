"""Where anchors come from, if nobody has a pool of images: sources compared at the same weight, steps and images.

- `plain`: no anchors.
- `bundled`: the pictograms that come with the starter, as an uploaded pool would be used.
- `drawn`: shapes, lines and clouds (`paint_core/data/drawn.py`); `anchors.drawn` of a patch.
- `cutmix`: pairs of the task's own training images, a rectangle of one in the other (Yun et al., ICCV 2019).
- `tiles`: pieces of the task's own training images, turned and tinted.
- `lipsum`: the task's own training images; held are the products of their features with those of 80 random texts
  (Lipsum-FT, Nam et al., ICLR 2024).
- `adversarial`: the task's own training images, pushed towards random texts by ten steps of gradient ascent.

The supported tasks that are bundled have no training images, so those cannot be compared here. Each row is a
fine-tuning of 200 steps; alpha is chosen by the combined rule on validation splits, all figures are of test splits.

    python benchmarks/anchor_sources.py [--quick] [--sources NAME,...] [--seeds N] [--weight W] [--task NAME]
        [--tower starter|vit] [--precision fp32|bf16] [--json FILE]
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from _patch import Outcome, choose, judge, trained
from _report import Figure, parser, report
from _tasks import anchors, patching, supported
from _towers import TOWERS, identity, load
from torch import Tensor

from contract.finetune_options import AnchorOptions
from paint_core.alpha import AlphaOptions
from paint_core.config.precision import Precision
from paint_core.data import Task
from paint_core.data.drawn import draw_images
from paint_core.models import BaseModel, encode_texts
from paint_core.training.anchoring import FEATURE_ANCHOR, AnchorLoss, drop_evaluation_images
from paint_core.weights import TaskVector

NUM_IMAGES = 1000
WEIGHT = AnchorOptions.model_fields["weight"].default
SEARCH = AlphaOptions(rule="combined", strategy="interpolated")
PROMISED_PERCENT, PROMISED_DROP = 95.0, 2.0
_WORDS = (
    *("lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit", "tempor", "incididunt", "labore"),
    *("magna", "aliqua", "minim", "veniam", "quis", "nostrud", "ullamco", "laboris", "nisi", "commodo", "consequat"),
)
_NUM_TEXTS, _TEXT_WORDS = 80, 8
_ATTACK_STEPS, _ATTACK_STEP, _ATTACK_REACH = 10, 8.0, 48.0


class LipsumAnchor:
    """Holds the products of an image's unit feature with those of random texts."""

    def __init__(self, base: BaseModel) -> None:
        """Embed the texts."""
        self._texts = encode_texts(base, random_texts())

    def targets(self, features: Tensor) -> Tensor:
        """Return the products [M, 80]."""
        return F.normalize(features, dim=-1) @ self._texts.T

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared distance."""
        return ((self.targets(features.to(targets.dtype)) - targets) ** 2).sum(dim=1).mean()


def random_texts() -> list[str]:
    """Return texts that mean nothing."""
    source = np.random.default_rng(3)
    return [" ".join(source.choice(_WORDS, _TEXT_WORDS)) for _ in range(_NUM_TEXTS)]


def draw_cutmix(_: BaseModel, task: Task) -> Tensor:
    """Return training images with a rectangle of another one."""
    assert task.train is not None
    source, images = np.random.default_rng(1), task.train.images
    side, mixed = images.shape[1], []
    for one, other in source.integers(0, len(images), (NUM_IMAGES, 2)):
        picture = images[int(one)].clone()
        cut = int(side * math.sqrt(1 - source.beta(1, 1)))
        top, left = (int(each) for each in source.integers(0, side - cut + 1, 2))
        picture[top : top + cut, left : left + cut] = images[int(other), top : top + cut, left : left + cut]
        mixed.append(picture)
    return torch.stack(mixed)


def draw_tiles(_: BaseModel, task: Task) -> Tensor:
    """Return images of tiles that were cut out of training images, turned and tinted."""
    assert task.train is not None
    source, images = np.random.default_rng(2), task.train.images
    side, made = images.shape[1], []
    for _number in range(NUM_IMAGES):
        per_row = int(source.choice([2, 4]))
        tile = side // per_row
        canvas = torch.zeros(side, side, 3)
        for row in range(0, per_row * tile, tile):
            for column in range(0, per_row * tile, tile):
                top, left = (int(each) for each in source.integers(0, side - tile + 1, 2))
                piece = images[int(source.integers(len(images))), top : top + tile, left : left + tile].float()
                canvas[row : row + tile, column : column + tile] = torch.rot90(piece, int(source.integers(4)))
        dark, light = (torch.from_numpy(source.uniform(0, 255, 3)).float() for _ in range(2))
        grey = canvas.mean(dim=2, keepdim=True) / 255
        share = float(source.uniform())
        made.append(share * canvas + (1 - share) * (dark * (1 - grey) + light * grey))
    return torch.stack(made).round().byte()


def draw_adversarial(base: BaseModel, task: Task) -> Tensor:
    """Return training images that the base takes for random texts."""
    assert task.train is not None
    source, tower = np.random.default_rng(4), copy.deepcopy(base.visual).eval()
    texts, pushed = encode_texts(base, random_texts()), []
    chosen = torch.from_numpy(source.integers(0, len(task.train), NUM_IMAGES))
    for start in task.train.images[chosen].float().split(100):
        wanted = torch.from_numpy(source.integers(0, len(texts), len(start)))
        images = start.clone()
        for _ in range(_ATTACK_STEPS):
            images.requires_grad_(True)
            features = F.normalize(tower(base.preprocess.normalise(images)), dim=-1)
            loss = F.cross_entropy(base.logit_scale * features @ texts.T, wanted)
            (slope,) = torch.autograd.grad(loss, images)
            moved = images.detach() - _ATTACK_STEP * slope.sign() - start
            images = (start + moved.clamp(-_ATTACK_REACH, _ATTACK_REACH)).clamp(0, 255)
        pushed.append(images.detach().round().byte())
    return torch.cat(pushed)


def own_images(_: BaseModel, task: Task) -> Tensor:
    """Return the task's training images."""
    assert task.train is not None
    return task.train.images


SOURCES: Mapping[str, Callable[[BaseModel, Task], Tensor] | None] = {
    "plain": None,
    "bundled": lambda base, _: anchors(base),
    "drawn": lambda base, _: draw_images(NUM_IMAGES, base.image_size),
    "cutmix": draw_cutmix,
    "tiles": draw_tiles,
    "lipsum": own_images,
    "adversarial": draw_adversarial,
}


@dataclass(frozen=True)
class Run:
    """One fine-tuning.

    Attributes:
        tower: One of `TOWERS`.
        task: To be patched.
        source: Of the anchors.
        weight: Of the anchors.
        seed: Of the fine-tuning.
        precision: Of the fine-tuning.
    """

    tower: str
    task: str
    source: str
    weight: float
    seed: int
    precision: Precision = "fp32"


def update(run: Run, task: Task, held: Mapping[str, Task]) -> TaskVector:
    """Return the update of a run, from the cache or trained now."""
    base, make = load(run.tower), SOURCES[run.source]
    weight = 0.0 if make is None else run.weight
    config = replace(
        base.finetune_defaults,
        precision=run.precision,
        iterations=200,
        warmup_steps=20,
        seed=run.seed,
        anchor_weight=weight,
    )
    loss: AnchorLoss = LipsumAnchor(base) if run.source == "lipsum" else FEATURE_ANCHOR
    name = f"{run.source}-{weight:g}-{run.task}-{run.seed}-{run.precision}-{identity(run.tower)}"
    return trained(
        *(f"anchor_sources/{name}", base, task, config), pool=_pool(run.source, base, task, held), anchor_loss=loss
    )


def _pool(source: str, base: BaseModel, task: Task, held: Mapping[str, Task]) -> Tensor | None:
    """Return a source's images, without any that is evaluated on."""
    make = SOURCES[source]
    if make is None:
        return None
    pool = make(base, task)
    if source in ("lipsum", "cutmix", "tiles", "adversarial"):
        return pool
    evaluated = [split for each in (task, *held.values()) for split in (each.validation, each.test)]
    return drop_evaluation_images(pool, *evaluated)


def patch(run: Run, task: Task, held: Mapping[str, Task]) -> Outcome:
    """Return what a patch with anchors from a source gives on test splits."""
    base, tau = load(run.tower), update(run, task, held)
    chosen = choose(base, tau, task, held, SEARCH)
    (tested,) = judge(base, tau, task, held, [chosen.alpha])
    return tested


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--sources", type=lambda text: text.split(","), default=[*SOURCES], help=", ".join(SOURCES))
    arguments.add_argument("--seeds", type=int, default=3, help="how many")
    arguments.add_argument(
        "--weight", type=float, default=AnchorOptions.model_fields["weight"].default, help="of anchors"
    )
    arguments.add_argument("--task", default="digits", help="digits, fashion, counting or looks")
    arguments.add_argument("--tower", choices=TOWERS, default="starter")
    arguments.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of fine-tuning")
    options = arguments.parse_args()
    base = load(options.tower)
    task, held = patching(base, (options.task,))[options.task], supported(base, 60 if options.quick else None)
    figures = []
    for source in options.sources:
        seeds = range(1 if options.quick else options.seeds)
        runs = [Run(options.tower, options.task, source, options.weight, seed, options.precision) for seed in seeds]
        found = [patch(run, task, held) for run in runs]
        told = "; ".join(f"{each.patching:.1f} / {each.supported_change:+.2f} at {each.alpha:g}" for each in found)
        print(f"{options.task} {source}: {told}", flush=True)
        percent, drop = (
            statistics.mean(values)
            for values in zip(*((each.patching, -each.supported_change) for each in found), strict=True)
        )
        is_promised = (options.tower, options.task, source) == ("starter", "digits", "drawn")
        figures += [
            Figure(f"{source}_percent", percent, "%", PROMISED_PERCENT if is_promised else None),
            Figure(
                *(f"{source}_supported_drop_points", drop, "points"),
                target=PROMISED_DROP if is_promised else None,
                at_most=True,
            ),
        ]
    report(figures, options.json)


if __name__ == "__main__":
    main()
